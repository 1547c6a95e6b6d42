"""Panel: several scorers judge the same candidates, and their judgements are pooled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import ClassVar, Literal

from pydantic import Field

from nodes.base import CallPlan, Candidate, Capability, Context, Estimator, Need, Range, Score, Shape, State
from nodes.calls import together
from nodes.scorers.base import Scored, Scorer
from nodes.scorers.registry import AnyScorer, scorer, scorer_name

__all__ = ["Panel"]


@scorer("panel")
class Panel(Scorer):
    """Let several scorers, mostly of different models, score each candidate, and pool what they say.

    Every member's score is first brought to 0..1 by its bounds (by the logistic function where it has none), since
    members use different scales. `mean` and `median` pool these; `majority` lets each member vote, for a candidate from
    `accept` on and else against it, and gives 1 to the side with more votes for, 0 with more against, 0.5 to a tie. A
    member that could not score a candidate is left out for that candidate; one that nobody scored has no score.

    When to use it: where one large judge would be dear, or has a liking for answers of its own kind: small judges of
        different families err differently.
    Calls: those of all members together.
    Paper: Replacing Judges with Juries: Evaluating LLM Generations with a Panel of Diverse Models (arXiv 2404.18796),
        PoLL: pooling by vote for verdicts, by the mean for marks.
    Symbols: none.
    Example:
        ```yaml
        name: panel-of-judges
        layers:
          - generate: {model: fast, samples: 6, temperature: 0.8}
          - score:
              scorer:
                use: panel
                members: [{use: judge, model: fast}, {use: judge, model: strong}]
                pool: mean
              keep: 1
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    members: tuple[AnyScorer, ...] = Field(min_length=1, description="The scorers; each scores every candidate.")
    pool: Literal["majority", "mean", "median"] = Field(default="mean", description="How scores become one.")
    accept: float = Field(
        default=0.5, ge=0, le=1, allow_inf_nan=False, description="With `majority`: from where on a member is for it."
    )

    def models(self) -> tuple[str, ...]:
        """Name the models of all members."""
        return tuple(dict.fromkeys(model for member in self.members for model in member.models()))

    def demands(self) -> frozenset[Need]:
        """What any member needs."""
        return frozenset[Need]().union(*(member.demands() for member in self.members))

    def required(self) -> frozenset[Capability]:
        """What any member needs of its models."""
        return frozenset[Capability]().union(*(member.required() for member in self.members))

    def reads_logprobs(self) -> bool:
        """Tell whether any member does."""
        return any(member.reads_logprobs() for member in self.members)

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Let all members score at once."""
        found = await together(member.score(state, candidates, context) for member in self.members)
        source = f"{self.pool} of {', '.join(self._names())}"
        scores = []
        for place in range(len(candidates)):
            views = [
                member.unit(score.value)
                for member, of_all in zip(self.members, found, strict=True)
                if (score := of_all.scores[place]) is not None
            ]
            scores.append(Score(self.pooled(views), source) if views else None)
        feedback = tuple(_joined(of_all.feedback[i] for of_all in found if of_all.feedback) for i in range(len(scores)))
        return Scored(tuple(scores), [note for of_all in found for note in of_all.notes], feedback)

    def pooled(self, views: Sequence[float]) -> float:
        """Pool scores in 0..1; raises `ValueError` for none."""
        if not views:
            raise ValueError("There are no scores to pool.")
        if self.pool == "mean":
            return math.fsum(views) / len(views)
        if self.pool == "median":
            return float(median(views))
        votes = sum(view >= self.accept for view in views)
        return 0.5 if 2 * votes == len(views) else float(2 * votes > len(views))

    def _names(self) -> list[str]:
        return [" ".join((scorer_name(type(member)), *member.models())) for member in self.members]

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell the calls of all members."""
        return tuple(call for member in self.members for call in member.plan(shape, estimator))

    def feedback_tokens(self, estimator: Estimator) -> Range | None:
        """Foretell the feedback of all members that give any, one behind the other."""
        given = [said for member in self.members if (said := member.feedback_tokens(estimator)) is not None]
        if not given:
            return None
        parting = len(given)
        return Range(
            min(said.low for said in given),
            math.fsum(said.likely for said in given) + parting,
            math.fsum(said.high for said in given) + 2 * parting,
        )


def _joined(said: Iterable[str | None]) -> str | None:
    return "\n\n".join(words for words in said if words) or None
