"""Short ways to ask a gateway, for the tests beside it."""

from __future__ import annotations

from pathlib import Path

from providers import Message, ModelBook, Request, Sampling, Scope
from providers.testing_server import ModelServer

PLAIN = "price: {prompt: 1, completion: 2}\n    limits: {retries: 8}"


def book_of(server: ModelServer, folder: Path, more: str = PLAIN, *, env: dict[str, str] | None = None) -> ModelBook:
    """Return a book with one alias `m` that lives on a server."""
    path = folder / "models.yaml"
    text = f"models:\n  m:\n    transport: openai\n    model: test-model\n    base_url: {server.url}\n    {more}\n"
    path.write_text(text, encoding="utf-8")
    return ModelBook.load(path, env or {})


def request(text: str = "What is 2 + 3?", *, model: str = "m", **sampling: object) -> Request:
    """Return a request of one user message."""
    drawn = Sampling(**sampling)  # type: ignore[arg-type]  # the names are those of Sampling
    return Request(model=model, messages=(Message("user", text),), sampling=drawn)


def scope(item: str = "1", run: str = "r-1", *, fresh: str = "") -> Scope:
    """Return the scope of one item."""
    return Scope(run, item, fresh=fresh)
