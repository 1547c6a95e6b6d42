"""The scope of one item in one run: it hands out sample indices and remembers what was used."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from providers.base import Sample, Usage
from providers.errors import ProviderError
from providers.tally import Tally, Totals

__all__ = ["Cut", "Failure", "Scope", "Use"]


class Use(NamedTuple):
    """A sample that a node was given."""

    node: str
    sample: Sample


class Cut(NamedTuple):
    """A sample that a node asked for and cancelled, with what had been billed for it by then."""

    node: str
    model: str
    usage: Usage
    cost: Decimal | None


class Failure(NamedTuple):
    """A sample that a node asked for and that did not come."""

    node: str
    error: ProviderError


class Scope:
    """One item of one run; make a new one for every architecture that works on the item.

    Identical requests are counted, so that the third sample of a prompt is the same sample in every architecture.
    `fresh` names a sequence of samples of its own, for a final test on samples that nothing was chosen by.
    """

    def __init__(self, run_id: str, item_id: str, *, fresh: str = "") -> None:
        self.run_id = run_id
        self.item_id = item_id
        self.fresh = fresh
        self.samples: list[Use] = []
        self.failures: list[Failure] = []
        self.cancelled: list[Cut] = []
        self._next: dict[bytes, int] = {}
        self._paid_keys: set[str] = set()
        self._tally = Tally()

    def take(self, request_digest: bytes, n: int) -> range:
        """Return the next n indices of a request and count them as taken."""
        first = self._next.get(request_digest, 0)
        self._next[request_digest] = first + n
        return range(first, first + n)

    def claims(self, key: str, payer: tuple[str, str]) -> bool:
        """Tell whether a sample counts as paid here: this item of this run bought it, and it was not counted yet.

        A run that was killed and resumed finds what it had bought in the cache, and it counts as bought.
        """
        if payer != (self.run_id, self.item_id) or key in self._paid_keys:
            return False
        self._paid_keys.add(key)
        return True

    def use(self, node: str, sample: Sample) -> None:
        """Remember a sample that was handed to a node."""
        self.samples.append(Use(node, sample))
        self._tally.add(sample.completion.usage, sample.cost, paid=not sample.cached)

    def fail(self, node: str, error: ProviderError) -> None:
        """Remember a sample that did not come."""
        self.failures.append(Failure(node, error))
        self._tally.failures += 1

    def cut(self, cut: Cut) -> None:
        """Remember a sample that was paid and cancelled."""
        self.cancelled.append(cut)
        self._tally.cut(cut.usage, cut.cost)

    def totals(self) -> Totals:
        """Return calls, tokens and dollars, used and paid."""
        return self._tally.totals()
