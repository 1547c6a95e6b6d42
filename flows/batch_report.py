"""What a batch came to: rows, calls, dollars by node and model, and what each way of saving saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from providers.base import Usage
from providers.prices import cost

if TYPE_CHECKING:
    from db.runs import RunStatus
    from providers.book import ModelBook
    from providers.scope import Scope

__all__ = ["BatchReport", "Saving", "Spending", "Sums", "full_price", "savings", "uses_of"]


class Spending(NamedTuple):
    """The calls of one node to one model."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    """Prompt tokens that the provider had in its cache."""
    cost: Decimal | None = Decimal(0)
    """Dollars; None where the price is unknown."""
    paid_calls: int = 0
    paid: Decimal | None = Decimal(0)

    def plus(self, other: Spending) -> Spending:
        """Add; what is unknown in one is unknown in the sum."""
        return Spending(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            None if self.cost is None or other.cost is None else self.cost + other.cost,
            self.paid_calls + other.paid_calls,
            None if self.paid is None or other.paid is None else self.paid + other.paid,
        )


Uses = dict[tuple[str, str], Spending]
"""By node and model."""


def uses_of(*scopes: Scope) -> Uses:
    """Add up what scopes used."""
    found: Uses = {}
    for scope in scopes:
        for node, sample in scope.samples:
            usage, bought = sample.completion.usage, not sample.cached
            one = Spending(
                1,
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_prompt_tokens,
                sample.cost,
                int(bought),
                sample.cost if bought else Decimal(0),
            )
            key = node, sample.model
            found[key] = found[key].plus(one) if key in found else one
    return found


def uses_row(uses: Uses) -> list[list[object]]:
    """Write uses as JSON; dollars stay exact as text."""
    return [[*key, *one[:4], _text(one.cost), one.paid_calls, _text(one.paid)] for key, one in uses.items()]


def uses_read(row: Sequence[Sequence[Any]]) -> Uses:
    """Read what `uses_row` wrote."""
    found: Uses = {}
    for node, model, calls, prompt, completion, cached, spent, paid_calls, paid in row:
        found[node, model] = Spending(calls, prompt, completion, cached, _dollars(spent), paid_calls, _dollars(paid))
    return found


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _dollars(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


@dataclass(slots=True)
class Sums:
    """Running sums over the rows of a job; as large as its architecture, whatever the number of rows."""

    rows: int = 0
    failed: int = 0
    retriable: int = 0
    """Of the failed, those that may succeed another time."""
    scores: float = 0.0
    scored: int = 0
    uses: Uses = field(default_factory=dict)
    ran: Counter[str] = field(default_factory=Counter)
    """Rows in which a node asked anything."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows in which a node's condition did not hold."""

    def add(self, row: Mapping[str, Any], score: float | None) -> None:
        """Count one row of a part."""
        self.rows += bool(row["ok"])
        self.failed += not row["ok"]
        self.retriable += bool(row.get("retry"))
        if score is not None:
            self.scores += score
            self.scored += 1
        uses = uses_read(row["uses"])
        for key, one in uses.items():
            self.uses[key] = self.uses[key].plus(one) if key in self.uses else one
        self.ran.update({node for node, _ in uses})
        self.skipped.update(row.get("skipped", ()))

    @property
    def total(self) -> Spending:
        """What all nodes used."""
        total = Spending()
        for one in self.uses.values():
            total = total.plus(one)
        return total


class Saving(NamedTuple):
    """What one way of saving saved."""

    way: str
    dollars: Decimal | None
    """None where it cannot be told in dollars."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """What a batch came to."""

    run_id: str
    name: str
    status: RunStatus
    planned: int
    """Rows of the input."""
    rows: int
    """Rows in the output."""
    failed: int
    retriable: int
    """Of the failed, those that `batch resume` asks again; the others are no rows that could be asked."""
    score: float | None
    """Mean over the rows in the output; None without a scorer."""
    spending: Spending
    by_node: Mapping[tuple[str, str], Spending]
    savings: tuple[Saving, ...]
    seconds: float
    """Wall time of all goes at this run together."""
    out: str
    failed_out: str
    """The file of the failed rows; empty where none failed."""
    reason: str = ""
    """Why the run was stopped."""
    nominal: bool = False
    estimate: Mapping[str, Any] | None = None
    """What was planned after a pilot, beside what came of it."""

    def record(self) -> dict[str, Any]:
        """Return the report as plain data; dollars are exact."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NESTED}
        nodes = [{"node": node, "model": model, **one._asdict()} for (node, model), one in self.by_node.items()]
        return {**plain, **self.spending._asdict(), "nodes": nodes, "savings": [one._asdict() for one in self.savings]}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> BatchReport:
        """Make a report of a record that was stored as JSON."""
        plain = {each.name: stored[each.name] for each in fields(cls) if each.name not in _NESTED}
        return cls(
            **plain,
            spending=_spending(stored),
            by_node={(node["node"], node["model"]): _spending(node) for node in stored["nodes"]},
            savings=tuple(Saving(one["way"], _dollars(one["dollars"]), one["sentence"]) for one in stored["savings"]),
        )


_NESTED = ("spending", "by_node", "savings")


def _spending(stored: Mapping[str, Any]) -> Spending:
    numbers = {name: stored[name] for name in Spending._fields}
    return Spending(**{**numbers, "cost": _dollars(stored["cost"]), "paid": _dollars(stored["paid"])})


def savings(
    sums: Sums, book: ModelBook, *, switches: tuple[int, int] | None = None, ordered: bool = False
) -> tuple[Saving, ...]:
    """Say what each way of saving saved, in dollars where that can be told.

    `switches` are the changes of model that were made and those that there would have been; `ordered` says that rows
    were ordered for prompt caches, so that these are spoken of even where they held nothing.
    """
    found: list[Saving] = []
    total = sums.total
    if total.calls > total.paid_calls:
        known = None if total.cost is None or total.paid is None else total.cost - total.paid
        shared = total.calls - total.paid_calls
        found.append(Saving("shared", known, f"{shared:,} of {total.calls:,} calls were there already"))
    found += [one for one in (_provider_cache(sums, book, ordered), _batch_price(sums, book)) if one is not None]
    found += [_skipped(node, rows, sums) for node, rows in sums.skipped.items() if sums.ran[node]]
    if switches is not None:
        made, else_made = switches
        found.append(Saving("one_model", None, f"{made:,} changes of model instead of {else_made:,}"))
    return tuple(found)


def _provider_cache(sums: Sums, book: ModelBook, ordered: bool) -> Saving | None:
    total = sums.total
    if not (total.cached_prompt_tokens or ordered):
        return None
    saved = Decimal(0)
    for (_, model), one in sums.uses.items():
        price = book.resolve(model).price
        if price is not None and price.cached_prompt is not None:
            saved += one.cached_prompt_tokens * (price.prompt - price.cached_prompt) / 1_000_000
    share = f"{total.cached_prompt_tokens:,} of {total.prompt_tokens:,} prompt tokens"
    return Saving("prompt_cache", saved, f"{share} were in the providers' caches")


def full_price(sums: Sums, book: ModelBook) -> Decimal | None:
    """Return what all calls cost when they are made at once; None where a price is unknown."""
    total = Decimal(0)
    for (_, model), one in sums.uses.items():
        usage = Usage(one.prompt_tokens, one.completion_tokens, one.cached_prompt_tokens)
        listed = cost(usage, book.resolve(model).price)
        # A machine that is rented by the hour has no price list: its calls cost what they cost.
        spent = one.cost if listed is None else listed
        if spent is None:
            return None
        total += spent
    return total


def _batch_price(sums: Sums, book: ModelBook) -> Saving | None:
    """Compare what calls cost with what the same tokens cost at once."""
    listed, spent = full_price(sums, book), sums.total.cost
    if listed is None or spent is None or listed <= spent:
        return None
    return Saving("batch_price", listed - spent, "calls went through a batch interface at its price")


def _skipped(node: str, rows: int, sums: Sums) -> Saving:
    spent = Spending()
    for (name, _), one in sums.uses.items():
        if name == node:
            spent = spent.plus(one)
    each = None if spent.cost is None else spent.cost / sums.ran[node]
    saved = None if each is None else each * rows
    return Saving("condition", saved, f"node '{node}' was not needed for {rows:,} rows")
