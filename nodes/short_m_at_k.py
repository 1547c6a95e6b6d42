"""Short-m@k: a race of k responses; the first m that are finished vote, the others are cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import Field, model_validator

from nodes.ballots import read_answers
from nodes.base import AnswerKind, Context, Estimator, NodePlan, Range, Shape, State, exactly
from nodes.calls import candidate_of, failure_notes, nothing_left, together
from nodes.drawing import Drawing, generate_variables
from nodes.planning import fresh
from nodes.racing import race
from nodes.registry import technique
from nodes.settling import settle
from providers.base import Asked, Sample
from providers.errors import ProviderError

__all__ = ["ShortMAtK"]


class _Finished(NamedTuple):
    samples: tuple[Sample, ...]
    """The m that count, or as many as came; shortest first where they came at once."""
    failures: tuple[ProviderError, ...]


@technique("short_m_at_k")
class ShortMAtK(Drawing):
    """Start k responses at once, stop when m of them are finished, cancel the others, and vote among the m.

    Each racer is a request of its own. A racer that fails drops out and the race goes on with the others. A tie of the
    vote goes to the answer with the shortest response, and the shortest of the winner's responses stands for it; with
    m = 1 the first that is finished wins. What a cancelled racer had written is paid and counted, and not kept. Racers
    whose response is kept from an earlier run take no time, so that the order of finishing is told by their length:
    where at least m are kept, the m shortest of these count and no other is started. A run that is repeated therefore
    pays nothing and ends as it did, unless a shorter response came whole in the moment of its cancelling, which is
    kept; kept responses of another architecture with fewer samples take part alike. The racers are samples 0 to k − 1
    whatever was drawn before, and a `generate` of the same settings behind the race draws them again, not new ones.

    When to use it: with models that think long, whose short chains are right more often than their long ones, and
        where the answer is wanted soon. It saves time and tokens, not calls. Prices by the hour gain most.
    Calls: k are started, of which k − m (or fewer) are cancelled.
    Paper: Don't Overthink it. Preferring Shorter Thinking Chains for Improved LLM Reasoning (arXiv 2505.17813).
    Symbols: m, k as in short-m@k; `finished` = responses that voted or could have; `cancelled` = responses that neither
        counted nor failed (in a repeated run they are not started again); `agreement` = votes of the winner / all
        votes; `answers` = responses that voted.
    Example:
        ```yaml
        name: short-3-at-8
        layers:
          - short_m_at_k: {model: fast, k: 8, m: 3, temperature: 0.8}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"agreement", "answers", "cancelled", "finished"})
    races = True

    k: int = Field(default=8, ge=1, description="Responses that are started.")
    m: int = Field(default=3, ge=1, description="Responses that are waited for.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    @model_validator(mode="after")
    def _no_more_than_all(self) -> ShortMAtK:
        if self.m > self.k:
            raise ValueError(f"m is {self.m}, but only k = {self.k} responses are started")
        return self

    async def run(self, state: State, context: Context) -> State:
        """Race and vote; raises `InsufficientCandidates` where every racer failed."""
        found = await self._race(context, state)
        notes = failure_notes(context.node, found.failures, f"generate with {self.model}")
        if not found.samples:
            raise nothing_left(context.node, found.failures)
        made = [candidate_of(sample, context.node, number) for number, sample in enumerate(found.samples, 1)]
        read = read_answers(made, self.kind or context.answer_kind, context.node)
        settled = settle(read.candidates, context.node, ties="shortest")
        return (
            replace(state, candidates=(settled.candidate,))
            .measured(
                agreement=settled.agreement,
                answers=settled.answers,
                cancelled=self.k - len(found.samples) - len(found.failures),
                finished=len(found.samples),
            )
            .noted(*notes, *read.notes, *settled.notes)
        )

    async def _race(self, context: Context, state: State) -> _Finished:
        """Take what is kept, race the others for what is missing, and return the m that count."""
        kept = await context.stored(
            self.model,
            "generate",
            generate_variables(state.question),
            n=self.k,
            sampling=self.sampling(),
            system=self.system,
        )
        done = await together(self._racer(context, state, index) for index in sorted(kept))
        if _finished(done) < self.m:
            others = [index for index in range(self.k) if index not in kept]
            missing = self.m - _finished(done)
            done += await race(
                (self._racer(context, state, index) for index in others), lambda so_far: _finished(so_far) >= missing
            )
        samples = [sample for asked in done for sample in asked.samples]
        # Equals by their index, which a repeated run knows as well; who was first it does not.
        samples.sort(key=lambda sample: (sample.completion.usage.completion_tokens, sample.index))
        failures = tuple(failure for asked in done for failure in asked.failures)
        return _Finished(tuple(samples[: self.m]), failures)

    async def _racer(self, context: Context, state: State, index: int) -> Asked:
        return await context.ask(
            self.model,
            "generate",
            generate_variables(state.question),
            sampling=self.sampling(),
            first=index,
            system=self.system,
            cancellable=True,
        )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell k calls, of which those that are cancelled before they are sent do not count."""
        call = self.foretell_draws(shape, estimator, Range(self.m, self.k, self.k), 1)
        return NodePlan((call,), fresh(shape, exactly(1), call.completion_tokens))


def _finished(done: Sequence[Asked]) -> int:
    return sum(len(asked.samples) for asked in done)
