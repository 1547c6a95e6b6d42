"""The hot cache and the single flight of several processes, in Redis.

A sample that one process paid is found by the others, and two that want the same sample at once pay once: the first
holds a lock while it asks, by a lease that ends if it dies, and the others look again until the answer is there. What
is here is only a copy: a sample is durable in the database before it is put here. Where Redis is away, each process
pays for itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import orjson

from providers.base import Completion, Usage
from providers.codec import Stored, tokens_as_json, tokens_from_json
from providers.redis_link import Field, RedisAway, RedisLink, Reply, Script

__all__ = ["Claim", "Hot", "SharedCache", "oldest_of", "pack", "unpack"]

_VERSION = 1
_LARGEST = 256 * 1024
"""Bytes; what is longer stays in the database alone."""

_CLAIM = Script("""
local P, me, lease, found = KEYS[1], ARGV[1], ARGV[2], {}
for i = 3, #ARGV do
  local value = redis.call('GET', P .. 'call:' .. ARGV[i])
  if not value and lease ~= '0' then
    local lock = P .. 'lock:' .. ARGV[i]
    if redis.call('SET', lock, me, 'NX', 'PX', lease) or redis.call('GET', lock) == me then value = '' end
  end
  found[#found + 1] = value
end
return found
""")
_LAND = Script("""
local P, me, life = KEYS[1], ARGV[1], ARGV[2]
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then redis.call('SET', P .. 'call:' .. ARGV[i], ARGV[i + 1], 'PX', life) end
  if redis.call('GET', P .. 'lock:' .. ARGV[i]) == me then redis.call('DEL', P .. 'lock:' .. ARGV[i]) end
end
return 1
""")
_KEEP = Script("""
for i = 3, #ARGV do
  if redis.call('GET', KEYS[1] .. 'lock:' .. ARGV[i]) == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1] .. 'lock:' .. ARGV[i], ARGV[2])
  end
end
return 1
""")
_PAGE = Script("return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 500)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hot:
    """A sample from the hot cache."""

    stored: Stored
    created_at: datetime
    home: str
    """Names the database that holds it."""


class Claim(NamedTuple):
    """What came of wanting some keys."""

    found: dict[str, Hot]
    mine: frozenset[str]
    """Those that this process is to pay for; the others are being paid for by another."""


class SharedCache:
    """Samples and locks in Redis; one for each gateway, closed with `aclose`.

    `home` names the database that this process writes to, `life_s` how long a sample stays here, `lease_s` how long a
    lock outlives a process that died.
    """

    def __init__(self, link: RedisLink, *, home: str = "", life_s: float = 86_400.0, lease_s: float = 15.0) -> None:
        self.home = home
        self._link = link
        self._life_ms = int(life_s * 1000)
        self._lease_ms = int(lease_s * 1000)
        self._me = secrets.token_hex(8)
        self._held: set[str] = set()
        self._keeping: asyncio.Task[None] | None = None

    async def claim(self, keys: Sequence[str], *, oldest: datetime | None = None, lock: bool = True) -> Claim:
        """Look for samples, and lock those that are neither there nor another's; without `lock` only look.

        A sample from before `oldest` does not count, and then nothing is locked for it. Where Redis is away, all keys
        are this process' own.
        """
        lease = self._lease_ms if lock else 0
        try:
            values = await self._run(_CLAIM, lease, *keys)
        except RedisAway:
            return Claim({}, frozenset(keys))
        if not isinstance(values, list):
            raise TypeError(f"Redis gave {values!r} where a list was due")
        found: dict[str, Hot] = {}
        mine: set[str] = set()
        for key, value in zip(keys, values, strict=True):
            hot = unpack(key, value) if isinstance(value, bytes) and value else None
            if hot is not None and (oldest is None or hot.created_at >= oldest):
                found[key] = hot
            elif value or not lock:
                mine.add(key)
            elif isinstance(value, bytes):
                mine.add(key)
                self._held.add(key)
        if self._held and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="colonnade-locks")
        return Claim(found, frozenset(mine))

    def land(self, samples: Iterable[Stored], *, created_at: datetime | None = None) -> None:
        """Put samples that are durable, and give up the locks that were held for them."""
        moment = created_at or datetime.now(UTC)
        fields: list[Field] = []
        for stored in samples:
            value = pack(stored, moment, self.home)
            fields += (stored.key, value if len(value) <= _LARGEST else b"")
            self._held.discard(stored.key)
        if fields:
            self._post(_LAND, self._life_ms, *fields)

    def release(self, keys: Iterable[str]) -> None:
        """Give up what is still locked of some keys: their calls failed."""
        held = [key for key in keys if key in self._held]
        if held:
            self._held.difference_update(held)
            self._post(_LAND, self._life_ms, *(field for key in held for field in (key, b"")))

    async def clear(self) -> int:
        """Take every sample out of the hot cache; returns how many. Raises `RedisAway`."""
        gone, cursor = 0, b"0"
        while True:
            reply = await self._link.run(_PAGE, [self._link.prefix], [cursor, _literal(self._link.prefix) + "call:*"])
            if not isinstance(reply, list) or not isinstance(reply[0], bytes) or not isinstance(reply[1], list):
                raise TypeError(f"Redis gave {reply!r} where a page of keys was due")
            keys = [key for key in reply[1] if isinstance(key, bytes)]
            if keys:
                removed = await self._link.call("UNLINK", *keys)
                gone += removed if isinstance(removed, int) else 0
            cursor = reply[0]
            if cursor == b"0":
                return gone

    async def aclose(self) -> None:
        """Give up all locks."""
        self.release(list(self._held))
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
            self._keeping = None

    async def _keep(self) -> None:
        """Renew the leases of the locks that are held."""
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            if self._held:
                try:
                    await self._run(_KEEP, self._lease_ms, *self._held)
                except RedisAway:
                    continue

    async def _run(self, script: Script, *fields: Field) -> Reply:
        return await self._link.run(script, [self._link.prefix], [self._me, *fields])

    def _post(self, script: Script, *fields: Field) -> None:
        self._link.post("EVAL", script.text, 1, self._link.prefix, self._me, *fields)


def pack(stored: Stored, created_at: datetime, home: str) -> bytes:
    """Write a sample as the hot cache holds it."""
    completion = stored.completion
    return orjson.dumps(
        [
            _VERSION,
            completion.text,
            completion.finish_reason,
            list(completion.usage),
            None if completion.logprobs is None else tokens_as_json(completion.logprobs),
            None if stored.cost is None else format(stored.cost, "f"),
            stored.latency_s,
            stored.payer,
            created_at,
            home,
        ]
    )


def unpack(key: str, value: bytes) -> Hot | None:
    """Read a sample; None for one that another version wrote."""
    fields = orjson.loads(value)
    if fields[0] != _VERSION:
        return None
    _, text, finish_reason, usage, logprobs, cost, latency_s, payer, created_at, home = fields
    return Hot(
        stored=Stored(
            key=key,
            completion=Completion(
                text=text,
                finish_reason=finish_reason,
                usage=Usage(*usage),
                logprobs=None if logprobs is None else tokens_from_json(logprobs),
            ),
            cost=None if cost is None else Decimal(cost),
            latency_s=latency_s,
            payer=(payer[0], payer[1]),
        ),
        created_at=datetime.fromisoformat(created_at),
        home=home,
    )


def oldest_of(expiry: timedelta | None) -> datetime | None:
    """Return the moment before which samples do not count."""
    return None if expiry is None else datetime.now(UTC) - expiry


def _literal(text: str) -> str:
    """Keep a text from being read as a pattern."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in text)
