"""Minimum Bayes risk: the candidate that agrees best, on average, with all that might have been said instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.answers import extract
from nodes.base import AnswerKind, CallPlan, Candidate, Context, Estimator, Note, Range, Shape, State
from nodes.calls import failure_notes, together
from nodes.parsing import read_score
from nodes.settings import Asking, ModelName
from nodes.shown import quoted
from nodes.similarity import METRICS, Metric

__all__ = ["BayesRisk", "Utilities", "chosen"]


class Utilities(NamedTuple):
    """The utility of each candidate against each reference, None where it could not be told; and notes."""

    rows: list[list[float | None]]
    notes: list[Note]


class BayesRisk(Asking):
    """A technique that chooses by mean utility against references."""

    utility: Literal["answer", Metric, "judge"] = Field(
        default="token_f1", description="How a candidate is compared with a reference."
    )
    judge: ModelName | None = Field(default=None, description="The model that compares, where `utility` is `judge`.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    @model_validator(mode="after")
    def _judge_where_needed(self) -> Self:
        if (self.utility == "judge") != (self.judge is not None):
            raise ValueError("give a model as judge with utility: judge, and with no other utility")
        return self

    def models(self) -> tuple[str, ...]:
        """Name the model that compares, if there is one."""
        return () if self.judge is None else (self.judge,)

    async def compare(
        self, state: State, candidates: Sequence[Candidate], references: Sequence[str], context: Context
    ) -> Utilities:
        """Compare every candidate with every reference but itself.

        The first references are the candidates' own texts, in their order.
        """
        if self.judge is not None:
            return await self._judged(self.judge, state.question, candidates, references, context)
        match self.utility:
            case "answer" | "judge":
                return self._answered(candidates, references, self.kind or context.answer_kind, context.node)
            case name:
                metric = METRICS[name]
                return Utilities([[metric(c.text, reference) for reference in references] for c in candidates], [])

    def _answered(
        self, candidates: Sequence[Candidate], references: Sequence[str], kind: AnswerKind, node: str
    ) -> Utilities:
        answers = [extract(text, kind) for text in references]
        names = [*(c.id for c in candidates), *(f"extra {n}" for n in range(1, len(references) - len(candidates) + 1))]
        silent = [name for name, answer in zip(names, answers, strict=True) if answer is None]
        notes = [Note(node, "unparsed", f"no answer in {', '.join(silent)}")] if silent else []
        own = answers[: len(candidates)]
        return Utilities([[float(a is not None and a == b) for b in answers] for a in own], notes)

    async def _judged(
        self, judge: str, question: str, candidates: Sequence[Candidate], references: Sequence[str], context: Context
    ) -> Utilities:
        pairs = [(row, column) for row in range(len(candidates)) for column in range(len(references)) if row != column]
        asked = await together(
            context.ask(
                judge,
                "mbr_utility",
                {
                    "question": quoted(question),
                    "candidate": quoted(candidates[row].text),
                    "reference": quoted(references[column]),
                },
                sampling=self.sampling(),
                system=self.system,
            )
            for row, column in pairs
        )
        rows: list[list[float | None]] = [[None] * len(references) for _ in candidates]
        notes: list[Note] = []
        for (row, column), batch in zip(pairs, asked, strict=True):
            what = f"comparison of {candidates[row].id} with reference {column + 1}"
            notes += failure_notes(context.node, batch.failures, what)
            mark = read_score(batch.samples[0].completion.text) if batch.samples else None
            if batch.samples and mark is None:
                notes.append(Note(context.node, "unparsed", f"{what}: no score from 1 to 10"))
            rows[row][column] = None if mark is None else (mark - 1) / 9
        return Utilities(rows, notes)

    def foretell_comparisons(self, shape: Shape, estimator: Estimator, reference: Range, calls: Range) -> CallPlan:
        """Plan comparisons with references of so many tokens by the judge."""
        return estimator.call(
            self.judge or "",
            "mbr_utility",
            {"question": "", "candidate": "", "reference": ""},
            inserted=shape.question.plus(shape.candidate_tokens).plus(reference),
            calls=calls,
            sampling=self.sampling(),
            system=self.system,
        )


def chosen(state: State, candidates: Sequence[Candidate], utilities: Utilities, keep: int | None, node: str) -> State:
    """Return the state with the candidates in order of their mean utility, the best first, and their scores."""
    means = [_mean(row, place) for place, row in enumerate(utilities.rows)]
    notes = list(utilities.notes)
    if len(candidates) == 1 and means == [None]:
        means = [1.0]
        notes.append(Note(node, "skipped", "a lone candidate has nothing to be compared with"))
    elif not any(means):
        notes.append(Note(node, "fallback", "no candidate agrees with any reference; the order is kept"))
    scored = [c.scored(node, mean or 0.0) for c, mean in zip(candidates, means, strict=True)]
    scored.sort(key=lambda candidate: -candidate.scores[node])
    expected = scored[0].scores[node]
    return replace(state, candidates=tuple(scored[:keep])).measured(expected_utility=expected).noted(*notes)


def _mean(row: Sequence[float | None], own: int) -> float | None:
    known = [utility for column, utility in enumerate(row) if column != own and utility is not None]
    return math.fsum(known) / len(known) if known else None
