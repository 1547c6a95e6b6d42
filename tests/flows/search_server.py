"""A model server that adds up: `search_server.py LATENCY_S [--key KEY] [--fail-every N] [--revoke-after N]
[--away-while FILE]`.

Each model is right as often as its skill says, and always the same for the same sample, so that a search has something
to find and finds the same again. It prints its URL, as `providers.testing_server` does.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from providers.testing_server import Asking, ModelServer

if TYPE_CHECKING:
    from aiohttp import web

SKILLS: Final = {"able": 0.85, "weak": 0.4}
_SUM = re.compile(r"What is (\d+) \+ (\d+)\?")


def reply(asking: Asking) -> str:
    """Answer a sum; right or wrong by the model, the messages and the number of the sample."""
    text = " ".join(content for _, content in asking.messages)
    seed = hashlib.sha256(f"{asking.model}\0{text}\0{asking.sample}".encode()).digest()
    found = _SUM.search(text)
    total = int(found[1]) + int(found[2]) if found else 0
    right = seed[0] < 256 * SKILLS[asking.model]
    return f"Let me add.\nAnswer: {total if right else total + 1 + seed[1] % 9}"


class SumServer(ModelServer):
    """Fails for good on some questions, takes no key but `KEY-2` after so many requests, is away for a file."""

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        fail_every: int = 0,
        revoke_after: int | None = None,
        key: str | None = None,
        away_while: Path | None = None,
    ) -> None:
        super().__init__(models=tuple(SKILLS), latency_s=latency_s, reply=reply, api_key=key)
        self._fail_every = fail_every
        self._revoke_after = revoke_after
        self._away_while = away_while

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._revoke_after is not None and self.ledger.requests > self._revoke_after:
            self.api_key = "KEY-2"
        found = _SUM.search(str(orjson.loads(await request.read())["messages"]))
        away = self._away_while is not None and self._away_while.exists()
        if away or (self._fail_every and found and int(found[1]) % self._fail_every == 0):
            self.script[:] = ["503"]
        return await super()._chat(request)


async def serve(server: ModelServer) -> None:
    """Serve until killed."""
    async with server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("latency", type=float)
    parser.add_argument("--key")
    parser.add_argument("--fail-every", type=int, default=0)
    parser.add_argument("--revoke-after", type=int)
    parser.add_argument("--away-while", type=Path)
    chosen = parser.parse_args()
    server = SumServer(
        fail_every=chosen.fail_every,
        revoke_after=chosen.revoke_after,
        key=chosen.key,
        latency_s=chosen.latency,
        away_while=chosen.away_while,
    )
    asyncio.run(serve(server))


if __name__ == "__main__":
    main()
