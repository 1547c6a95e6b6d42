"""Learned files: what runs taught, as JSON objects with a `form` that names their kind and its version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from db.errors import DataError

__all__ = ["LearnedFile", "names_file"]

Model = TypeVar("Model", bound=BaseModel)


class LearnedFile(NamedTuple):
    """A kind of learned files."""

    form: str
    what: str
    """What such a file holds, for messages."""
    maker: str
    """The module that makes it."""

    def write(self, path: Path | str, data: Mapping[str, Any]) -> None:
        """Write a file, with its form in front."""
        whole = {"form": self.form, **data}
        Path(path).write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    def read(self, path: Path | str) -> dict[str, Any]:
        """Read a file; raises `DataError` where there is none, or it is of another form."""
        name = str(path)
        try:
            data = orjson.loads(Path(path).read_bytes())
        except OSError as error:
            reason = error.strerror or error
            raise DataError(
                f"The learned file {name!r} cannot be read ({reason}); make one with {self.maker}."
            ) from None
        except orjson.JSONDecodeError:
            raise DataError(f"The learned file {name!r} is not valid JSON; make it again with {self.maker}.") from None
        if not isinstance(data, dict) or data.get("form") != self.form:
            raise DataError(
                f"The file {name!r} holds no {self.what} of the form '{self.form}'; make some with {self.maker}."
            )
        return data

    def read_as(self, path: Path | str, model: type[Model]) -> Model:
        """Read a file as a pydantic model; raises `DataError` as `read` does, and where the model does not take it."""
        data = self.read(path)
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise self.refused(path, error) from None

    def broken(self, path: Path | str, why: str) -> DataError:
        """Return the error of a file that is of the form, but cannot be used."""
        return DataError(f"The learned file {str(path)!r} is broken ({why}); make it again with {self.maker}.")

    def refused(self, path: Path | str, error: ValidationError) -> DataError:
        """Return the error of a file that a pydantic model does not take."""
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        return self.broken(path, f"{place}: {first['msg']}")


def names_file(data: object, setting: str) -> bool:
    """Tell whether raw settings name a file; what is no path is left for the setting's own type to refuse."""
    return isinstance(data, Mapping) and isinstance(data.get(setting), str | Path) and bool(data[setting])
