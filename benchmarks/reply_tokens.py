"""Tokens of the embedded models' replies by template, and how far plans are from what is used.

    python benchmarks/reply_tokens.py

The means are what `architectures/estimator.py` takes for likely with compact prompts.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from statistics import mean
from typing import Final

from architectures import compile_architecture, plan
from architectures.parse import parse
from evals.tasks.registry import load_task
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope

ITEMS: Final = 20
LAYERS: Final[Mapping[str, list[object]]] = {
    "critique, rank, fuse": [
        {"critique": {"model": "embedded/judge"}},
        {"rank": {"model": "embedded/judge", "keep": 3}},
        {"fuse": {"model": "embedded/judge"}},
    ],
    "judge": [{"judge": {"model": "embedded/judge"}}],
    "verify": [{"verify": {"model": "embedded/judge"}}],
    "critique, refine": [{"critique": {"model": "embedded/judge"}}, {"refine": {"model": "embedded/judge"}}],
    "unit tests": [
        {"unit_test_generate": {"model": "embedded/judge"}},
        {"unit_test_evaluate": {"model": "embedded/judge"}},
    ],
}


async def main() -> None:
    """Print the mean tokens by template, and the likely totals of plans against those used."""
    book = ModelBook(env={})
    items = load_task("arithmetic", items=ITEMS).items
    replies: dict[str, list[int]] = defaultdict(list)
    async with Gateway(book, None) as gateway:
        for name, layers in LAYERS.items():
            generate = {"generate": {"model": "embedded/mini", "samples": 4, "temperature": 0.8}}
            spec = parse([generate, *layers])
            foretold = plan(spec, book, [item.question for item in items]).total
            compiled = compile_architecture(spec, book)
            prompt = completion = 0
            for item in items:
                scope = Scope("r", item.id)
                await compiled.run(item.question, gateway=gateway, scope=scope)
                for use in scope.samples:
                    completed = use.sample.completion
                    kind = "verdict" if completed.text.startswith("Verdict") else use.node
                    replies[kind].append(completed.usage.completion_tokens)
                prompt += scope.totals().prompt_tokens
                completion += scope.totals().completion_tokens
            print(
                f"{name}: prompt tokens {foretold.prompt_tokens.likely:.0f} foretold, {prompt / ITEMS:.0f} used; "
                f"replies {foretold.completion_tokens.likely:.0f} foretold, {completion / ITEMS:.0f} used"
            )
    for node, counts in sorted(replies.items()):
        print(f"{node}: {mean(counts):.0f}")


if __name__ == "__main__":
    asyncio.run(main())
