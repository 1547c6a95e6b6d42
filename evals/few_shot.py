"""Worked examples with reasoning that a model wrote itself: the questions of a run that it answered rightly.

Medprompt (arXiv 2311.16452) makes its examples so: a model solves questions whose answers are known, and what it solved
wrongly is left out, since its reasoning is then likely to be wrong too. Take a run on questions that are not those of
the evaluation to come; its traces hold the questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import orjson

from db.errors import DataError
from db.runs import ItemRecord
from nodes.shots import WorkedExample

__all__ = ["save_examples", "worked_examples"]

_STATES_THE_ANSWER = re.compile(
    r"\W{0,8}(?:(?:so |thus |therefore,? )?(?:the )?(?:final )?answers?\b|####)", re.IGNORECASE
)


def worked_examples(results: Iterable[ItemRecord], *, most: int | None = None) -> tuple[WorkedExample, ...]:
    """Return an example of each question that was answered rightly, in the order of the results, `most` at most.

    The reasoning is the reply without the lines at its end that state the answer; a reply that is nothing else gives
    an example without reasoning. Raises `DataError` where there is no right answer, or no trace of one was kept.
    """
    found: dict[str, WorkedExample] = {}
    for record in results:
        question = orjson.loads(record.trace).get("outcome", {}).get("question", "").strip()
        answer = (record.answer or "").strip()
        if not (record.correct and question and answer) or question in found:
            continue
        found[question] = WorkedExample(
            question=question, answer=answer, reasoning=_reasoning(record.output or "", answer)
        )
    if not found:
        raise DataError(
            "No item of these results has a right answer and a trace; evaluate more questions, with traces."
        )
    return tuple(found.values())[:most]


def save_examples(examples: Iterable[WorkedExample], path: Path | str) -> None:
    """Write examples as the JSONL file that the setting `file` of `few_shot`, `medprompt` and `iterative_icl` names."""
    lines = (orjson.dumps(example.model_dump(exclude_none=True)) + b"\n" for example in examples)
    Path(path).write_bytes(b"".join(lines))


def _reasoning(reply: str, answer: str) -> str | None:
    lines = reply.strip().splitlines()
    while lines and (not lines[-1].strip() or _STATES_THE_ANSWER.match(lines[-1])):
        del lines[-1]
    reasoning = "\n".join(lines).strip()
    return reasoning if reasoning and reasoning != answer else None
