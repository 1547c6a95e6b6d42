"""Quality-cost router: each question to a weak or a strong model, by what the strong one is expected to gain."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.base import CallPlan, Context, Estimator, NodePlan, Range, Shape, State, exactly
from nodes.calls import failure_notes, made
from nodes.drawing import generate_variables
from nodes.files import digest_of, pinned, still
from nodes.planning import fresh, spread
from nodes.registry import technique
from nodes.routing_model import RoutingModel
from nodes.settings import Asking, ModelName

__all__ = ["SHIPPED", "QualityCostRouter"]

_FOLDER = Path(__file__).parent / "routers"
SHIPPED: Final = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
"""Routers that ship, by the names that the setting `router` takes."""


class _Bar(NamedTuple):
    """From which prediction on the strong model is asked, and for what share of questions that will be."""

    threshold: float
    share: Range


@technique("quality_cost_router")
class QualityCostRouter(Asking):
    """Send each question to a weak or a strong model, before either is asked, by a router that was trained on outcomes.

    The router foretells from the words of the question the chance that the strong model answers it better, where
    equally good answers count half. From `threshold` on the strong model is asked; with `share` in its place the
    threshold is the one above which that share of the router's training questions lay. The router is a file
    (`nodes.routing_model`) that `evals.routing.train_router` makes from recorded outcomes, as in
    `examples/train_router.py`, and it is pinned by its digest. `nano-mini` ships; it knows `embedded/nano` and
    `embedded/mini`. A cascade looks at the weak model's answer first; a router never pays twice.

    When to use it: where questions differ in how much a strong model helps, it shows in their words, and outcomes of
        both models on a few hundred like questions are at hand. A router without a gain over lots is worth nothing:
        look at its APGR, 0.5 for lots.
    Calls: k, of one of the two models.
    Paper: RouteLLM: Learning to Route LLMs with Preference Data (arXiv 2406.18665), threshold and share of strong
        calls, with a logistic model of hashed words for its learned ones; FrugalGPT: How to Use Large Language Models
        While Reducing Cost and Improving Performance (arXiv 2305.05176), a learned choice of model.
    Symbols: k is `samples`. Measures: `route` is 0 for the weak model and 1 for the strong; `gain`, -1 to 1, is what
        the strong model is expected to gain on the question in accuracy.
    Example:
        ```yaml
        name: routed-vote
        layers:
          - quality_cost_router:
              {weak: fast, strong: strong, router: nano-mini, share: 0.5, samples: 3, temperature: 0.8}
          - vote
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    draws_question = "later"
    measures = frozenset({"gain", "route"})

    weak: ModelName = Field(description="The cheaper model.")
    strong: ModelName = Field(description="The better one.")
    router: str = Field(min_length=1, description="The router's file, or the name of one that ships: `nano-mini`.")
    router_sha256: str | None = Field(default=None, description="Digest of the file; filled in where it is left out.")
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="Chance of a better answer from which on the strong model is asked."
    )
    share: float | None = Field(
        default=None, ge=0, le=1, description="Share of questions for the strong model, in place of `threshold`."
    )
    samples: int = Field(default=1, ge=1, description="Samples of the model that is asked.")

    @model_validator(mode="before")
    @classmethod
    def _pin(cls, data: Any) -> Any:  # raw settings, as pydantic hands them to a validator
        if isinstance(data, dict) and data.get("router") in SHIPPED and data.get("router_sha256") is None:
            return {**data, "router_sha256": digest_of(_path(data["router"]))}
        return pinned(data, "router")

    @model_validator(mode="after")
    def _one_bar(self) -> Self:
        if (self.threshold is None) == (self.share is None):
            raise ValueError("give `threshold` or `share`, exactly one of them")
        return self

    def models(self) -> tuple[str, ...]:
        """Name the weak model, then the strong one."""
        return tuple(dict.fromkeys((self.weak, self.strong)))

    def trained(self) -> RoutingModel:
        """Return the router; raises `DataError` where its file is broken or has changed."""
        path = _path(self.router)
        return _read(path, digest_of(still(path, self.router_sha256)))

    def _bar(self, router: RoutingModel) -> _Bar:
        if self.share in (0, 1):
            # Exactly none or all, though a question may lie outside what the training has seen.
            return _Bar(-1.0 if self.share else 2.0, exactly(self.share))
        if self.share is not None:
            return _Bar(router.threshold(self.share), Range(0, self.share, 1))
        bar = self.threshold or 0.0
        above = sum(quantile >= bar for quantile in router.quantiles) / len(router.quantiles)
        return _Bar(bar, Range(0, above, 1))

    async def run(self, state: State, context: Context) -> State:
        """Choose a model and ask it; raises `InsufficientCandidates` where every call failed."""
        router = self.trained()
        predicted = router.predict(state.question)
        route = int(predicted >= self._bar(router).threshold)
        model = (self.weak, self.strong)[route]
        asked = await context.ask(
            model,
            "generate",
            generate_variables(state.question),
            n=self.samples,
            sampling=self.sampling(),
            system=self.system,
        )
        notes = failure_notes(context.node, asked.failures, f"generate with {model}")
        candidates = made(context.node, [(asked, ())])
        return replace(state, candidates=candidates).measured(route=route, gain=2 * predicted - 1).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell k calls of one model, by the share of questions that goes to each."""
        strong = self._bar(self.trained()).share
        weak = Range(1 - strong.high, 1 - strong.likely, 1 - strong.low)
        if self.weak == self.strong:
            strong, weak = exactly(1), exactly(0)
        plans = [
            self._foretell(model, part, shape, estimator)
            for model, part in ((self.weak, weak), (self.strong, strong))
            if part.high > 0
        ]
        tokens = spread([plan.completion_tokens for plan in plans])
        return NodePlan(tuple(plans), fresh(shape, exactly(self.samples), tokens))

    def _foretell(self, model: str, part: Range, shape: Shape, estimator: Estimator) -> CallPlan:
        return estimator.call(
            model,
            "generate",
            generate_variables(""),
            inserted=shape.question,
            calls=part.times(exactly(self.samples)),
            n=self.samples,
            sampling=self.sampling(),
            system=self.system,
        )


def _path(router: str) -> str:
    return str(_FOLDER / f"{router}.json") if router in SHIPPED else router


@lru_cache(maxsize=16)
def _read(path: str, digest: str) -> RoutingModel:
    """Read a router once for each content; the digest tells the contents apart."""
    return RoutingModel.load(path)
