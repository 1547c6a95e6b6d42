"""What is capped: the session, each run, each day (UTC) and each API key; every one is an account with a name.

In `models.yaml`, beside `models`:

    budgets:
      day: {dollars: 5}                     # all that this database, or this Redis, sees between two midnights in UTC
      run: {dollars: 2, calls: 10_000}      # each run by itself, what it had paid before it was interrupted included
      keys:
        OPENAI_API_KEY: {dollars: 20}       # all that is ever spent with the key that the variable holds
        GROQ_API_KEY: {tokens: 1_000_000, per: day}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from db.errors import ConfigError, SpecError, did_you_mean

__all__ = [
    "Account",
    "Budgets",
    "CapPlan",
    "Caps",
    "Charge",
    "KeyCaps",
    "day_caps",
    "day_of",
    "key_label",
    "read_budgets",
]

_DAY_VARIABLES: Mapping[str, str] = {
    "dollars": "COLONNADE_DAY_DOLLARS",
    "tokens": "COLONNADE_DAY_TOKENS",
    "calls": "COLONNADE_DAY_CALLS",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Caps(_Frozen):
    """Caps on three measures; None leaves one uncapped."""

    dollars: Decimal | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    calls: int | None = Field(default=None, gt=0)


class KeyCaps(Caps):
    """Caps on what is spent with one API key."""

    per: Literal["day", "ever"] = "ever"


class Budgets(_Frozen):
    """The section `budgets` of `models.yaml`."""

    run: Caps | None = None
    day: Caps | None = None
    keys: dict[str, KeyCaps] = Field(default_factory=dict)
    """By the name of the environment variable that holds the key."""

    @field_validator("keys")
    @classmethod
    def _are_variables(cls, value: dict[str, KeyCaps]) -> dict[str, KeyCaps]:
        if not all(_VARIABLE.match(name) for name in value):
            raise ValueError("must be names of environment variables, not keys")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One thing that is capped; where several processes share a Redis, the name is what they share."""

    name: str
    """`session …`, `run ID`, `day 2026-11-22`, `key NAME#hash`, `key NAME#hash 2026-11-22`."""
    dollars: Decimal | None = None
    tokens: int | None = None
    calls: int | None = None


class Charge(NamedTuple):
    """Whose call it is, which says what accounts it is charged to."""

    run_id: str = ""
    key: str = ""
    """The label of the API key (`key_label`); empty where the model needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapPlan:
    """All caps of a session."""

    session: Account = Account(name="session")
    """What the session may spend altogether; a study of many sessions gives them one name."""
    run: Caps | None = None
    day: Caps | None = None
    keys: Mapping[str, KeyCaps] = field(default_factory=dict)

    @property
    def by_day(self) -> bool:
        """True where some account belongs to a day."""
        return self.day is not None or any(caps.per == "day" for caps in self.keys.values())

    def accounts(self, charge: Charge, day: str) -> tuple[Account, ...]:
        """Name the accounts that a call is charged to, the session's first; `day` is its date in UTC."""
        found = [self.session]
        if self.run is not None and charge.run_id:
            found.append(_account(f"run {charge.run_id}", self.run))
        if self.day is not None:
            found.append(_account(f"day {day}", self.day))
        caps = self.keys.get(charge.key.partition("#")[0]) if charge.key else None
        if caps is not None:
            suffix = f" {day}" if caps.per == "day" else ""
            found.append(_account(f"key {charge.key}{suffix}", caps))
        return tuple(found)


def read_budgets(file: str, section: object) -> Budgets:
    """Read the section `budgets` of a models file; raises `SpecError` that names the place and the nearest key."""
    if not isinstance(section, Mapping | None):
        raise SpecError(f"{file}: 'budgets' must be a mapping with day, run or keys.")
    try:
        return Budgets.model_validate(section or {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = [str(part) for part in first["loc"]]
        where = f"{file}: {'.'.join(['budgets', *place])}"
        if first["type"] == "extra_forbidden":
            sections: tuple[type[BaseModel], ...] = (Budgets, Caps, KeyCaps)
            near = did_you_mean(place[-1], sections[len(place) - 1].model_fields)
            raise SpecError(f"{where}: unknown key.{near}") from None
        raise SpecError(f"{where}: {str(first['msg']).removeprefix('Value error, ')}.") from None


def key_label(variable: str, key: str) -> str:
    """Return what stands for a key in names and rows: its variable and 8 hex digits of its salted SHA-256.

    Thirty-two bits tell the keys of one user apart and are far too few to find a key by.
    """
    digest = hashlib.sha256(b"colonnade key\x00" + variable.encode() + b"\x00" + key.encode()).hexdigest()
    return f"{variable}#{digest[:8]}"


def day_of(moment: datetime | None = None) -> str:
    """Return the date in UTC, as 2026-11-22."""
    return (moment or datetime.now(UTC)).astimezone(UTC).date().isoformat()


def day_caps(env: Mapping[str, str], written: Caps | None) -> Caps | None:
    """Return the caps of a day: those written in the models file, replaced by the environment's where it has some.

    Raises `ConfigError` for a variable that is no number above zero.
    """
    given = {measure: env[name].strip() for measure, name in _DAY_VARIABLES.items() if env.get(name, "").strip()}
    if not given:
        return written
    try:
        return Caps.model_validate({**(written.model_dump() if written else {}), **given})
    except ValidationError as error:
        measure = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
        raise ConfigError(
            f"{_DAY_VARIABLES[measure]} is no {'amount of dollars' if measure == 'dollars' else 'whole number'} "
            f"above zero: {given[measure]!r}; set it anew or unset it."
        ) from None


def _account(name: str, caps: Caps) -> Account:
    return Account(name=name, dollars=caps.dollars, tokens=caps.tokens, calls=caps.calls)
