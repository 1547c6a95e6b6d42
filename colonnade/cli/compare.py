"""`colonnade compare`: two runs, paired item by item."""

from __future__ import annotations

from colonnade.cli.console import emit, out
from colonnade.cli.options import JsonOption

__all__ = ["compare"]


def compare(first: str, second: str, json: JsonOption = False) -> None:
    """Compare two evaluations by their run ids: the difference in accuracy with interval and p-value."""
    from colonnade.tables import comparison_record, comparison_text
    from db.database import Database
    from db.runs import RunStore
    from evals import compare as paired

    with Database.open() as database:
        store = RunStore(database)
        a, b = store.get(first), store.get(second)
        comparison = paired(store.items(first), store.items(second))
    if json:
        emit({"first": first, "second": second, **comparison_record(comparison)})
    else:
        out(comparison_text(f"{a.name} ({first})", f"{b.name} ({second})", comparison))
