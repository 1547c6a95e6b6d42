"""What the tests of architectures share: a book of models at a local server, its replies, techniques that only wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from architectures.parse import parse, parse_text
from architectures.spec import ArchitectureSpec
from nodes.base import Candidate, Context, Estimator, NodePlan, Shape, State, Technique, exactly
from nodes.settings import OneModel
from providers.base import Asked
from providers.book import ModelBook
from providers.models import Capabilities, ModelSpec
from providers.prices import Price
from providers.testing_server import Asking

__all__ = ["Echo", "Wait", "answer_well", "book_at", "only", "text", "yaml_spec"]

PRICE = Price(prompt=Decimal(1), completion=Decimal(2))


def book_at(url: str = "http://127.0.0.1:9/v1", *names: str, n: bool = True, **changes: object) -> ModelBook:
    """A book in which every name is a model at this address."""
    return ModelBook(
        {
            name: ModelSpec.model_validate(
                {
                    "name": name,
                    "transport": "openai",
                    "model": "test-model",
                    "base_url": url,
                    "price": PRICE,
                    "identity": f"openai/{name}",
                    "max_output": 512,
                    "capabilities": Capabilities(n=n, logprobs=False),
                    **changes,
                }
            )
            for name in names or ("fast", "strong", "judge")
        },
        env={},
    )


def yaml_spec(text: str) -> ArchitectureSpec:
    return parse_text(text)


def only(**nodes: object) -> ArchitectureSpec:
    """An architecture of these nodes."""
    return parse({"nodes": nodes})


def text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def answer_well(asking: Asking) -> str:
    """Reply as a model would that does what the default prompts ask for, a little differently for each sample."""
    prompt = asking.prompt
    count = len(re.findall(r"<candidate number=", prompt))
    if "numbered list of" in prompt:
        wanted = int(re.search(r"numbered list of (\d+)", prompt).group(1))  # type: ignore[union-attr]  # it is there
        return "\n".join(f"{k}. The response states fact {k}." for k in range(1, wanted + 1))
    if "[Passed] or [Failed]" in prompt:
        return "\n".join(f"{k}. [Passed]" for k in range(1, prompt.count("[Passed] or [Failed]")))
    if "exactly one word in brackets" in prompt:
        return "[Correct]"
    if "Ranking: [a]" in prompt:
        return "Ranking: " + " > ".join(f"[{k}]" for k in range(count, 0, -1))
    if "Better: [1]" in prompt:
        return "Better: [2]"
    if "Score: N" in prompt:
        return f"Score: {1 + asking.sample % 10}"
    if "one section per candidate" in prompt:
        return "\n".join(f"[{k}] Sound, if brief." for k in range(1, count + 1))
    return f"Sample {asking.sample} of {asking.model}. Answer: {asking.sample % 3}"


class Wait(Technique):
    """Hands on one candidate of its own (or what it received) after some seconds, and takes measures."""

    gives = frozenset({"candidates"})

    seconds: float = 0.0
    makes: int = 1
    keeps: bool = False
    takes: Mapping[str, float] = {}

    async def run(self, state: State, context: Context) -> State:
        await asyncio.sleep(self.seconds)
        new = tuple(
            Candidate(id=f"{context.node}:{k}", text=f"from {context.node}", node=context.node, model=None)
            for k in range(1, self.makes + 1)
        )
        candidates = (*state.candidates, *new) if self.keeps else new
        return replace(state, candidates=candidates).measured(**self.takes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        return NodePlan((), shape._replace(candidates=exactly(self.makes)))


class Echo(OneModel):
    """Asks the same prompt whatever it receives, after some seconds, and keeps the indices it was given."""

    gives = frozenset({"candidates"})

    seconds: float = 0.0
    samples: int = 1

    async def run(self, state: State, context: Context) -> State:
        await asyncio.sleep(0)
        variables = {"question": state.question, "examples": (), "tests": ()}
        asked: Asked = await context.ask(self.model, "generate", variables, n=self.samples)
        await asyncio.sleep(self.seconds)
        made = tuple(
            Candidate(id=f"{context.node}:{k}", text=s.completion.text, node=context.node, model=s.model, index=s.index)
            for k, s in enumerate(asked.samples, 1)
        )
        return replace(state, candidates=made)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        call = estimator.call(self.model, "generate", {"question": ""}, inserted=shape.question, calls=exactly(1))
        return NodePlan((call,), shape._replace(candidates=exactly(self.samples)))
