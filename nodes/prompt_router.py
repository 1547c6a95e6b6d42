"""Prompt router: each question under the system message whose example questions it is nearest to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nodes.base import CallPlan, Capability, Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import failure_notes, made, together
from nodes.drawing import generate_variables
from nodes.planning import fresh, spread
from nodes.registry import technique
from nodes.retrieval import Retrieving
from nodes.settings import Asking, Models

__all__ = ["PromptRouter", "Route"]


class Route(BaseModel):
    """A prompt to choose, with questions that it is right for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: tuple[str, ...] = Field(min_length=1, description="Example questions.")
    system: str | None = Field(default=None, description="The system message; null for none.")
    model: Models | None = Field(default=None, description="The model or models, if not those of the node.")


class _Chosen(NamedTuple):
    place: int
    nearness: float
    notes: list[Note]


@technique("prompt_router")
class PromptRouter(Retrieving, Asking):
    """Choose among given prompts for each question, and ask for new responses under the one that is chosen.

    Each route has a system message and some questions that it is right for. The question is compared with all of them;
    the route whose example is nearest is taken, or with `decide: mean` the one whose examples are nearest on average. A
    route may name models of its own, so that different models answer different kinds of question. A question that is
    near to none goes the first way, and a note says so. The paper's prompts were learned, these are written.

    When to use it: where a task mixes kinds of questions that want different instructions or models, and which kind it
        is shows in the words.
    Calls: m·k; with `by: embeddings` 2 vectors more, and N the first time.
    Paper: (Dynamic) Prompting might be all you need to repair Compressed LLMs (arXiv 2310.00867).
    Symbols: m is the number of models of the chosen route, k is `samples`, N the number of example questions. Measures:
        `route` is the place of the chosen one, from 0, `nearness` what decided.
    Example:
        ```yaml
        name: sums-or-dates
        layers:
          - prompt_router:
              model: fast
              samples: 3
              temperature: 0.8
              routes:
                - {system: Count step by step., questions: ["How many cups are 3 rows of 4 cups?"]}
                - {system: Count the days on a calendar., questions: ["On which day does it end?"], model: strong}
          - vote
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    draws_question = "later"
    measures = frozenset({"nearness", "route"})
    vital = frozenset({"generate"})

    model: Models | None = Field(default=None, description="The model or models of routes that name none.")
    samples: int = Field(default=1, ge=1, description="Samples of each model.")
    routes: tuple[Route, ...] = Field(min_length=1, description="What is chosen from: `questions`, `system`, `model`.")
    decide: Literal["nearest", "mean"] = Field(
        default="nearest", description="The route with the nearest example, or with the nearest on average."
    )

    @model_validator(mode="after")
    def _every_route_has_a_model(self) -> Self:
        if self.model is None and any(route.model is None for route in self.routes):
            raise ValueError("a route names no model and the node has none; give `model` to either")
        return self

    def _asked(self, route: Route) -> tuple[str, ...]:
        models = route.model or self.model or ()
        return (models,) if isinstance(models, str) else models

    def models(self) -> tuple[str, ...]:
        """Name the models of all routes, then the one that gives vectors."""
        answering = [model for route in self.routes for model in self._asked(route)]
        return tuple(dict.fromkeys((*answering, *self.embedders())))

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the node needs of the models that answer."""
        return self.required()

    async def run(self, state: State, context: Context) -> State:
        """Choose a route and ask its models; raises `InsufficientCandidates` where every call failed."""
        place, nearness, notes = await self._choose(state.question, context)
        route = self.routes[place]
        models = self._asked(route)
        asked = await together(
            context.ask(
                model,
                "generate",
                generate_variables(state.question),
                n=self.samples,
                sampling=self.sampling(),
                system=route.system or self.system,
            )
            for model in models
        )
        for model, batch in zip(models, asked, strict=True):
            notes += failure_notes(context.node, batch.failures, f"generate with {model}")
        candidates = made(context.node, ((batch, ()) for batch in asked))
        return replace(state, candidates=candidates).measured(route=place, nearness=nearness).noted(*notes)

    async def _choose(self, question: str, context: Context) -> _Chosen:
        if len(self.routes) == 1:
            return _Chosen(0, 0.0, [])
        (scores,), notes = await self.compare(context, [question], self._questions())
        found = []
        begin = 0
        for route in self.routes:
            own = scores[begin : begin + len(route.questions)]
            begin += len(own)
            found.append(max(own) if self.decide == "nearest" else sum(own) / len(own))
        place = max(range(len(found)), key=lambda i: found[i])
        if found[place] <= 0:
            place = 0
            notes = [*notes, Note(context.node, "fallback", "the question is near to no route; the first is taken")]
        return _Chosen(place, found[place], notes)

    def _questions(self) -> list[str]:
        return [question for route in self.routes for question in route.questions]

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the calls of one route, whichever it is."""
        by_model: dict[str, list[CallPlan]] = {}
        for route in self.routes:
            for model, times in _counted(self._asked(route)):
                by_model.setdefault(model, []).append(self._foretell(model, times, route, shape, estimator))
        calls = tuple(_either(plans, len(self.routes)) for plans in by_model.values())
        sizes = [self.samples * len(self._asked(route)) for route in self.routes]
        count = Range(min(sizes), sum(sizes) / len(sizes), max(sizes))
        compared = self.foretell_compare(
            estimator, exactly(int(len(self.routes) > 1)), shape.question, self._questions()
        )
        tokens = spread([call.completion_tokens for call in calls])
        return NodePlan((*compared, *calls), fresh(shape, count, tokens))

    def _foretell(self, model: str, times: int, route: Route, shape: Shape, estimator: Estimator) -> CallPlan:
        return estimator.call(
            model,
            "generate",
            generate_variables(""),
            inserted=shape.question,
            calls=exactly(self.samples * times),
            n=self.samples,
            sampling=self.sampling(),
            system=route.system or self.system,
        )


def _counted(models: Sequence[str]) -> list[tuple[str, int]]:
    return [(model, models.count(model)) for model in dict.fromkeys(models)]


def _either(plans: Sequence[CallPlan], routes: int) -> CallPlan:
    """Return the plan of one model of which one of its routes comes true, or none of them."""
    share = len(plans) / routes

    def ranged(ranges: Sequence[Range]) -> Range:
        whole = spread(ranges)
        return whole if share == 1 else Range(0, whole.likely * share, whole.high)

    return replace(
        plans[0],
        calls=ranged([plan.calls for plan in plans]),
        requests=ranged([plan.requests for plan in plans]),
        prompt_tokens=spread([plan.prompt_tokens for plan in plans]),
    )
