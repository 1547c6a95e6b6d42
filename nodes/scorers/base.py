"""The contract of a scorer: settings that score candidates, and foretell the calls that it takes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from nodes.base import CallPlan, Candidate, Capability, Context, Estimator, Need, Note, Range, Score, Shape, State
from nodes.settings import ModelName
from providers.base import Sampling

__all__ = ["OneModelScorer", "Scored", "Scorer"]


class Scored(NamedTuple):
    """Scores in the order of the candidates, None for one that could not be scored, and notes of why."""

    scores: tuple[Score | None, ...]
    notes: list[Note]
    feedback: tuple[str | None, ...] = ()
    """What was said of each candidate, where the scorer says anything; it becomes the candidate's critique."""

    def onto(self, candidates: Sequence[Candidate], node: str, *, otherwise: float) -> tuple[Candidate, ...]:
        """Return the candidates with their scores and feedback; one without a score gets the value `otherwise`."""
        said = self.feedback or (None,) * len(candidates)
        return tuple(
            replace(candidate, critique=words or candidate.critique).scored(node, otherwise if score is None else score)
            for candidate, score, words in zip(candidates, self.scores, said, strict=True)
        )


class Scorer(BaseModel):
    """A way to score candidates; subclass it, and register it with `nodes.scorers.scorer`.

    Its docstring has the sections of a technique's (`nodes.describe.SECTIONS`); the example uses it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the state must hold beyond candidates."""
    bounds: ClassVar[tuple[float, float] | None] = None
    """The least and the greatest score; None where there is no such bound."""
    worst: ClassVar[float] = 0.0
    """What a candidate gets that could not be scored: no better than any score."""
    is_probability: ClassVar[bool] = False
    """The score is meant as the probability that the candidate is right."""
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType({})
    """A well-formed reply to each of the scorer's own templates, or a function of the template's variables."""

    def models(self) -> tuple[str, ...]:
        """Name the models that are asked, each once."""
        return ()

    def demands(self) -> frozenset[Need]:
        """What the state must hold beyond candidates with these settings."""
        return self.needs

    def required(self) -> frozenset[Capability]:
        """What every model of the scorer must be able to do."""
        return frozenset()

    def reads_logprobs(self) -> bool:
        """Tell whether it scores by the log probabilities that candidates carry."""
        return False

    @abstractmethod
    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Score candidates, all at once; what fails is None and noted, never an error."""

    @abstractmethod
    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell the calls for the candidates of a shape."""

    def feedback_tokens(self, estimator: Estimator) -> Range | None:
        """Foretell the tokens of the feedback on one candidate; None for a scorer that gives none."""
        return None

    def unit(self, score: float) -> float:
        """Bring a score to 0..1 by the bounds; a score without bounds goes through the logistic function."""
        from math import exp

        if self.bounds is None:
            return 1 / (1 + exp(-score)) if score >= 0 else exp(score) / (1 + exp(score))
        low, high = self.bounds
        return min(1.0, max(0.0, (score - low) / (high - low)))


class OneModelScorer(Scorer):
    """A scorer that asks one model."""

    model: ModelName = Field(description="Alias of `models.yaml` or `provider/name`.")
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="Sampling temperature.")
    max_tokens: int | None = Field(default=None, ge=1, description="Most tokens of one reply.")

    def models(self) -> tuple[str, ...]:
        """Name the model."""
        return (self.model,)

    def sampling(self) -> Sampling:
        """Return how tokens are drawn."""
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens)

    def given(self, value: float) -> Score:
        """Return a score with its source."""
        from nodes.scorers.registry import scorer_name

        return Score(value, f"{scorer_name(type(self))} {self.model}")
