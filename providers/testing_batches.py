"""The batches of the testing server: what it keeps of one, how far it is, and how the two providers show it."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from providers.testing_server import count_tokens

__all__ = ["STATES", "Batch", "BatchLedger", "Limits", "Stages", "request_hash", "tokens_of"]

STATES = ("validating", "in_progress", "finalizing", "completed")
"""Of a batch in OpenAI's form that comes to a good end."""
_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Seconds that a batch spends in each state."""

    validating_s: float = 0.0
    running_s: float = 0.0
    finalizing_s: float = 0.0
    cancelling_s: float = 0.0
    seen: bool = False
    """A batch stays in a state until it has been looked at there."""
    slow_after: int | None = None
    """Batches after which the queue turns slow; None: never."""
    slow_s: float = 3600.0
    """Seconds that a batch runs from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused."""

    rows: int = 50_000
    bytes: int = 200_000_000
    tokens: int | None = None
    """Tokens of prompts and answers that may be queued at once."""


@dataclass(slots=True)
class BatchLedger:
    """What was submitted."""

    uploads: int = 0
    batches: int = 0
    rows: int = 0
    """In batches that were accepted."""
    answered: int = 0
    """Requests of batches that were answered, which is what is billed at batch price."""
    prompt_tokens: int = 0
    """Of those requests."""
    completion_tokens: int = 0
    by_request: Counter[str] = field(default_factory=Counter)
    """How often each request (its body) was submitted in a batch that was accepted."""
    looks: Counter[str] = field(default_factory=Counter)
    """How often a batch was looked at, by the state that it was in."""


@dataclass(slots=True, eq=False)
class Batch:
    """A batch as the server keeps it."""

    id: str
    form: Literal["anthropic", "openai"]
    made: float
    lines: list[dict[str, Any]]
    number: int
    running_s: float
    input_file: str = ""
    metadata: dict[str, str] | None = None
    refused: tuple[str, str] | None = None
    """Code and message, where validation failed."""
    cancelled: float | None = None
    output: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Lines by what became of them: succeeded, errored, canceled, expired."""
    ended: float | None = None
    moments: dict[str, float] = field(default_factory=dict)
    """When it came into each state."""
    seen: set[str] = field(default_factory=set)

    def done(self) -> int:
        """Return the lines that are through."""
        if self.ended is not None:
            return len(self.lines)
        since = self.moments.get("in_progress", math.inf)
        running = (self.cancelled if self.cancelled is not None else time.time()) - since
        share = min(1.0, max(0.0, running / self.running_s)) if self.running_s else float(running >= 0)
        return int(share * len(self.lines))

    def openai_status(self) -> str:
        """Name its state as OpenAI does."""
        moments = self.moments
        for name in ("failed", "completed", "expired", "cancelled", "cancelling", "finalizing", "in_progress"):
            if name in moments:
                return name
        return "validating"

    def anthropic_status(self) -> str:
        """Name its state as Anthropic does."""
        if self.ended is not None:
            return "ended"
        return "canceling" if self.cancelled is not None else "in_progress"

    def openai_object(self) -> dict[str, object]:
        """Return it as OpenAI shows it."""
        counts = self.counts
        done = self.done()
        failed = counts["errored"] + counts["expired"] + counts["canceled"] if self.ended is not None else 0
        errors = None
        if self.refused is not None:
            code, message = self.refused
            error = {"code": code, "message": message, "param": None, "line": None}
            errors = {"object": "list", "data": [error]}
        moments = {
            f"{name}_at": int(self.moments[name]) if name in self.moments else None
            for name in ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        }
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": errors,
            "input_file_id": self.input_file,
            "completion_window": "24h",
            "status": self.openai_status(),
            "output_file_id": f"{self.id}-output" if self.output else None,
            "error_file_id": f"{self.id}-error" if self.errors else None,
            "created_at": int(self.made),
            "expires_at": int(self.made) + 24 * _HOUR,
            "request_counts": {"total": len(self.lines), "completed": done - failed, "failed": failed},
            "metadata": self.metadata,
            **moments,
        }

    def anthropic_object(self, url: str) -> dict[str, object]:
        """Return it as Anthropic shows it; `url` is the server's."""
        done = self.done() if self.ended is not None else 0
        names = ("succeeded", "errored", "canceled", "expired")
        counts = {name: self.counts[name] if self.ended is not None else 0 for name in names}
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.anthropic_status(),
            "request_counts": {"processing": len(self.lines) - done, **counts},
            "ended_at": _moment(self.ended),
            "created_at": _moment(self.made),
            "expires_at": _moment(self.made + 24 * _HOUR),
            "archived_at": None,
            "cancel_initiated_at": _moment(self.cancelled),
            "results_url": f"{url}/messages/batches/{self.id}/results" if self.ended is not None else None,
        }


def request_hash(body: dict[str, Any]) -> str:
    """Return a hash of all that a request says."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def tokens_of(line: dict[str, Any]) -> int:
    """Return the tokens that a line may use, as the queue counts them."""
    body = line.get("body") or line["params"]
    prompt = sum(count_tokens(str(message["content"])) + 4 for message in body["messages"])
    most = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
    return prompt + most * int(body.get("n") or 1)


def _moment(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
