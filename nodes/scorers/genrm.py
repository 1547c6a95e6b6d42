"""GenRM: several written verifications of each response, whose verdicts are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Shape, State, exactly
from nodes.calls import failure_notes, together
from nodes.ordinals import ordinals
from nodes.parsing import read_verdict
from nodes.scorers.base import OneModelScorer, Scored
from nodes.scorers.registry import scorer
from nodes.shown import quoted

__all__ = ["GenRM"]


class _Verdicts(NamedTuple):
    said: list[bool]
    """Those that could be read."""
    notes: list[Note]


@scorer("genrm")
class GenRM(OneModelScorer):
    """Let a model write V verifications of each candidate; the score is the share that end with the verdict correct.

    A verification is two calls, reasoning and then a verdict, with the prompts of `verify`. One that failed, or whose
    verdict cannot be read, does not count; a candidate without any readable verdict has no score. With one chain the
    score is 1 or 0, and the calls are those of `verify` at the same temperature, so nothing is paid twice.

    When to use it: where a model verifies better by reasoning than by a glance, and calls are plenty: at small budgets
        a vote over more solutions is the better buy (`solve_verify` divides a budget between the two).
    Calls: 2·n·V.
    Paper: When To Solve, When To Verify: Compute-Optimal Problem Solving and Generative Verification for LLM Reasoning
        (arXiv 2504.01005); Generative Verifiers: Reward Modeling as Next-Token Prediction (arXiv 2408.15240).
    Symbols: n is the number of candidates, S in the paper; `chains` is V.
    Example:
        ```yaml
        name: genrm-best-of-n
        layers:
          - generate: {model: fast, samples: 4, temperature: 0.8}
          - score: {scorer: {use: genrm, model: strong, chains: 3}, keep: 1}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    is_probability: ClassVar[bool] = True

    chains: int = Field(default=4, ge=1, le=64, description="Verifications of each candidate.")
    temperature: float | None = Field(
        default=0.7, ge=0, allow_inf_nan=False, description="Sampling temperature; at 0 all chains are alike."
    )

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Verify all candidates at once."""
        numbers = ordinals([candidate.text for candidate in candidates])
        question = quoted(state.question)
        verified = await together(
            self._verify(question, candidate, ordinal, context)
            for candidate, ordinal in zip(candidates, numbers, strict=True)
        )
        scores = tuple(self.given(sum(said) / len(said)) if said else None for said, _ in verified)
        return Scored(scores, [note for _, notes in verified for note in notes])

    async def _verify(self, question: str, candidate: Candidate, ordinal: int, context: Context) -> _Verdicts:
        variables = {"question": question, "candidate": quoted(candidate.text)}
        reasoned = await context.ask(self.model, "verify_reason", variables, n=self.chains, sampling=self.sampling())
        notes = failure_notes(context.node, reasoned.failures, f"reasoning on {candidate.id}")
        reasons = [quoted(sample.completion.text) for sample in reasoned.samples]
        # Equal prompts need sample indices of their own, which must not depend on the order of arrival.
        asked = await together(
            context.ask(
                self.model,
                "verify_verdict",
                {**variables, "reasoning": reasoning},
                sampling=self.sampling(),
                first=ordinal * self.chains + place,
            )
            for reasoning, place in zip(reasons, ordinals(reasons), strict=True)
        )
        said: list[bool] = []
        for chain, batch in enumerate(asked, 1):
            notes += failure_notes(context.node, batch.failures, f"verdict on {candidate.id}")
            verdict = read_verdict(batch.samples[0].completion.text) if batch.samples else None
            if verdict is not None:
                said.append(verdict)
            elif batch.samples:
                detail = f"no verdict in reply {chain} on {candidate.id}; it does not count"
                notes.append(Note(context.node, "unparsed", detail))
        return _Verdicts(said, notes)

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell a reasoning and a verdict for every chain of every candidate."""
        variables = {"question": "", "candidate": "", "reasoning": ""}
        inserted = shape.question.plus(shape.candidate_tokens)
        calls = shape.candidates.times(exactly(self.chains))
        reason = estimator.call(
            self.model,
            "verify_reason",
            variables,
            inserted=inserted,
            calls=calls,
            n=self.chains,
            sampling=self.sampling(),
        )
        verdict = estimator.call(
            self.model,
            "verify_verdict",
            variables,
            inserted=inserted.plus(reason.completion_tokens),
            calls=calls,
            sampling=self.sampling(),
        )
        return (reason, verdict)
