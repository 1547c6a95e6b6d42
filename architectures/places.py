"""Where in a file something stands, so that every error names its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from db.errors import SpecError, did_you_mean

__all__ = ["Place"]


class Place(NamedTuple):
    """A place in an architecture: the file or name it came from, and the way down to it (`nodes`, `vote`, `after`)."""

    source: str = ""
    path: tuple[str, ...] = ()

    def at(self, *keys: object) -> Place:
        """Go down by keys."""
        return Place(self.source, (*self.path, *map(str, keys)))

    def error(self, message: str) -> SpecError:
        """Make the error that names this place."""
        return SpecError(": ".join(part for part in (self.source, ".".join(self.path), message) if part))

    def unknown(self, what: str, wrong: object, known: Iterable[str]) -> SpecError:
        """Make the error for a name that is not known, with the nearest known one."""
        return self.error(f"there is no {what} {str(wrong)!r}.{did_you_mean(str(wrong), known)}")
