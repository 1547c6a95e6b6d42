"""The budget of a session: caps from the command, the models file and the environment; spending from the call store."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from db.calls import CallStore
    from db.database import Database
    from flows.session import SessionSettings
    from providers.book import ModelBook
    from providers.budget import Amount, Budget
    from providers.caps import Account
    from providers.caps import Caps as RunCaps
    from providers.redis_link import RedisLink

__all__ = ["database_name", "open_budget", "spent_before"]


def open_budget(settings: SessionSettings, book: ModelBook, calls: CallStore, link: RedisLink | None) -> Budget | None:
    """Return the budget of a session, or None where nothing is capped.

    It is kept in Redis where there is one and some cap concerns others too: the day's, a key's, a run's, or that of
    a session with a name. With `caps_per_run` the caps of the settings are those of each run. Raises `ConfigError`
    for a cap in the environment that is no number.
    """
    from providers.budget import Budget
    from providers.caps import Account, CapPlan, day_caps
    from providers.shared_budget import SharedBudget

    written = book.budgets
    caps = settings.caps.model_dump(exclude_none=True)
    name = f"session {settings.account or secrets.token_hex(6)}"
    run = _tighter(written.run, caps) if settings.caps_per_run and caps else written.run
    plan = CapPlan(
        session=Account(name=name, **({} if settings.caps_per_run else caps)),
        run=run,
        day=day_caps(os.environ, written.day),
        keys=written.keys,
    )
    others = run is not None or plan.day is not None or bool(plan.keys)
    if not caps and not others:
        return None
    if link is not None and (others or settings.account):
        return SharedBudget(link, plan, spent_before=spent_before(calls))
    return Budget(plan=plan, spent_before=spent_before(calls))


def spent_before(calls: CallStore) -> Callable[[Account], Amount | None]:
    """Return what says how much an account has spent by the database; None for a session, which it does not know."""
    from providers.budget import Amount

    def answer(account: Account) -> Amount | None:
        kind, _, rest = account.name.partition(" ")
        if kind == "run":
            spent = calls.spent(rest)
        elif kind == "day":
            spent = calls.spent(since=_midnight(rest))
        elif kind == "key":
            label, _, day = rest.partition(" ")
            spent = calls.spent(key_label=label, since=_midnight(day) if day else None)
        else:
            return None
        return Amount(spent.cost, spent.prompt_tokens + spent.completion_tokens, spent.calls)

    return answer


def _tighter(written: RunCaps | None, given: Mapping[str, Any]) -> RunCaps:
    """Return the lower cap of each measure."""
    from providers.caps import Caps as RunCaps

    known = written.model_dump(exclude_none=True) if written else {}
    return RunCaps.model_validate({**known, **{name: min(cap, known.get(name, cap)) for name, cap in given.items()}})


def database_name(database: Database) -> str:
    """Return a short name of a database that is the same for all who use it and for nobody else."""
    if database.dialect == "sqlite":
        place = f"{socket.gethostname()}:{Path(str(database.engine.url.database)).resolve()}"
    else:
        place = database.url_without_password
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)
