"""Worked examples (shots): their file format, and how they are cut down to a budget of tokens.

The file is JSONL; each line has `question`, `answer`, and where it is there `reasoning`:

    {"question": "A tray holds 2 rows of 5 cups. How many?", "reasoning": "2 rows of 5 are 10.", "answer": "10"}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from db.errors import DataError
from nodes.base import Range
from nodes.files import load_once, pinned, still
from nodes.retrieval import Retrieving, WordIndex, nearest, words
from nodes.shown import quoted
from providers.wire import estimate_tokens

__all__ = ["Shot", "Shots", "WorkedExample", "between", "pruned", "read_examples", "shot_variables"]

Drop = Literal["distance", "usefulness"]
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


class WorkedExample(BaseModel):
    """A question with its answer and, where it is known, the way to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    reasoning: str | None = None


class Shot(NamedTuple):
    """A worked example as the prompt shows it: `question`, and `answer` with the reasoning before it."""

    question: str
    reasoning: str
    final: str

    @property
    def answer(self) -> str:
        """The response that is shown: the reasoning, then the answer on a line of its own."""
        return f"{self.reasoning}\nAnswer: {self.final}" if self.reasoning else self.final

    @property
    def tokens(self) -> int:
        """Estimated tokens: four bytes to one."""
        return estimate_tokens(self.question) + estimate_tokens(self.answer)


def read_examples(path: str) -> tuple[WorkedExample, ...]:
    """Read a file of examples, once for each change; raises `DataError` with the line that is wrong."""
    return load_once(path, _parse_examples)


def _parse_examples(content: bytes) -> tuple[WorkedExample, ...]:
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(WorkedExample.model_validate(orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            raise DataError(f"line {number}: not valid JSON ({error.msg}).") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the line"
            raise DataError(
                f"line {number}: {place}: {first['msg']}; an example has the texts `question` and `answer`."
            ) from None
    if not found:
        raise DataError("line 1: the file holds no example; put one JSON object on each line.")
    return tuple(found)


class Shots(Retrieving):
    """A technique that shows worked examples, from its settings or from a file."""

    examples: tuple[WorkedExample, ...] = Field(
        default=(), description="Worked examples (`question`, `answer`, `reasoning`) written in place."
    )
    file: str | None = Field(default=None, description="A JSONL file of such examples, in place of `examples`.")
    file_sha256: str | None = Field(default=None, description="Digest of the file; filled in where it is left out.")
    use_reasoning: bool = Field(default=True, description="Show the examples' reasoning before their answers.")

    @model_validator(mode="before")
    @classmethod
    def _pin(cls, data: Any) -> Any:  # raw settings, as pydantic hands them to a validator
        return pinned(data, "file")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.examples) == bool(self.file):
            raise ValueError("examples come from `examples` or from `file`, from exactly one of them")
        return self

    def pool(self) -> tuple[Shot, ...]:
        """Return all examples, quoted for a prompt; raises `DataError` where the file is broken or has changed."""
        found = read_examples(still(self.file, self.file_sha256)) if self.file else self.examples
        return tuple(self._shot(example) for example in found)

    def _shot(self, example: WorkedExample) -> Shot:
        reasoning = quoted(example.reasoning) if example.reasoning and self.use_reasoning else ""
        return Shot(quoted(example.question), reasoning, quoted(example.answer))


def shot_variables(question: str, examples: Sequence[Shot]) -> dict[str, object]:
    """Return what the template `generate` shows of a question and its examples."""
    return {"question": question, "examples": tuple(examples), "tests": ()}


def between(least: Range, most: Range) -> Range:
    """Return the range from the low end of one to the high end of another."""
    return Range(least.low, (least.likely + most.likely) / 2, most.high)


def pruned(
    shots: Sequence[Shot], nearness: Sequence[float], budget: int | None, *, drop: Drop = "distance", least: int = 1
) -> list[Shot]:
    """Cut examples, the nearest first, down to a budget of estimated tokens, coarse before fine.

    Whole examples go first, until `least` are left: by `distance` the farthest, by `usefulness` the one that says
    least that the question asks for and the others do not show. Then the reasoning of the longest is shortened by the
    sentence that has least to do with its question, never by its last one, then left out. Where even that is too much,
    the remaining examples go. The order of those that stay is kept.
    """
    left = list(shots)
    near = list(nearness)
    if budget is None:
        return left

    def too_much() -> bool:
        return sum(shot.tokens for shot in left) > budget

    while too_much() and len(left) > max(1, least):
        gone = len(left) - 1 if drop == "distance" else _least_useful(left, near)
        del left[gone], near[gone]
    while too_much() and any(shot.reasoning for shot in left):
        longest = max(range(len(left)), key=lambda i: len(left[i].reasoning))
        left[longest] = left[longest]._replace(reasoning=_shortened(left[longest]))
    while too_much():
        del left[-1]
    return left


def _least_useful(shots: Sequence[Shot], nearness: Sequence[float]) -> int:
    """Return the example whose nearness, in parts of the greatest, less its likeness to another one, is least."""
    top = max((abs(one) for one in nearness), default=0.0) or 1.0
    bags = [set(words(f"{shot.question} {shot.answer}")) for shot in shots]
    useful = []
    for i, bag in enumerate(bags):
        alike = max(len(bag & other) / max(1, len(bag | other)) for j, other in enumerate(bags) if j != i)
        useful.append(nearness[i] / top - alike)
    # Of equals the last, which is the farthest, goes.
    return min(range(len(shots)), key=lambda i: (useful[i], -i))


def _shortened(shot: Shot) -> str:
    sentences = [part for part in _SENTENCE.split(shot.reasoning) if part.strip()]
    if len(sentences) < 2:
        return ""
    scores = WordIndex(sentences[:-1]).scores(f"{shot.question} {shot.final}")
    least = nearest([-score for score in scores], 1)[0]
    return " ".join(sentences[:least] + sentences[least + 1 :])
