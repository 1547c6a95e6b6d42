"""Spawn and join: a thread hands parts of its work to children side by side, and goes on with their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from nodes.base import CallPlan, Context, Estimator, NodePlan, Range, Shape
from nodes.calls_in_text import LONGEST_INPUT
from nodes.planning import spread
from nodes.registry import technique
from nodes.settings import ModelName
from nodes.shown import quoted
from nodes.spawning import Grown, Spawning
from nodes.threads import Thread

__all__ = ["SpawnJoin"]

_MOST_CALLS = 1000


def _example_parent(variables: Mapping[str, Any]) -> str:
    if variables["rounds"]:
        return "Both ways come to the same.\nAnswer: 12"
    return "Two ways of counting.\nSpawn: Multiply 3 rows by 4 cups.\nSpawn: Add 4 cups 3 times."


def _example_child(variables: Mapping[str, Any]) -> str:
    if variables["can_spawn"] and not variables["rounds"]:
        return "Let me split this.\nSpawn: Add 4 and 4.\nSpawn: Add 4 to 8."
    return "4 + 4 + 4 = 12.\nResult: 12 cups"


@technique("spawn_join")
class SpawnJoin(Spawning):
    """Let a model spawn sub-tasks as it works, run them as calls side by side, and let it go on with their results.

    The parent's reply either ends in lines `Spawn: …` or is its response. Each line becomes a child, which sees its
    line alone and reports one line `Result: …`; all children of a reply run at the same time, and the parent goes on
    with its work so far and their results in view (the join). The parent decides whether, when and how widely to spawn,
    up to `joins` times with `width` children each; then it has to conclude. With `depth` 2 or more children may spawn
    in the same way. A child whose call fails leaves a result that is missing and says so; one without a result line
    reports the end of its reply. Where a call of the parent fails, or it spawns when it has to conclude, one more call
    answers from the results. The paper trains its model to spawn; a model that is only asked to may do so too often or
    never. The embedded models cannot play these roles.

    When to use it: on search problems with cases that can be tried apart, where one long chain of thought would take
        too long or run out of context.
    Calls: 1 up to T(d) + 1 a sample, where T(0) = 1 and T(d) = j + 1 + j·w·T(d - 1); settings with T(d) above 1,000 are
        refused.
    Paper: Learning Adaptive Parallel Reasoning with Language Models (APR, arXiv 2504.15466).
    Symbols: d is `depth`, j is `joins`, w is `width`. Measures (means over the samples): `joins` of the parent,
        `spawned`, children of all levels, and `found`, those of them that reported.
    Example:
        ```yaml
        name: adaptive-parallel
        layers:
          - spawn_join: {model: strong, child: fast, width: 4, joins: 2}
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"found", "joins", "spawned"})
    vital = frozenset({"answer_from"})
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"spawn": _example_parent, "spawn_child": _example_child}
    )

    child: ModelName | None = Field(default=None, description="The model of the children; null for `model`.")
    depth: int = Field(default=1, ge=1, le=3, description="Levels of children.")

    @model_validator(mode="after")
    def _few_enough_calls(self) -> Self:
        most = self._most_calls(self.depth)
        if most > _MOST_CALLS:
            raise ValueError(
                f"depth {self.depth}, joins {self.joins} and width {self.width} allow {most:,} calls a sample, more "
                f"than {_MOST_CALLS:,}; lower one of them"
            )
        return self

    @property
    def child_model(self) -> str:
        """The model of the children."""
        return self.child or self.model

    def models(self) -> tuple[str, ...]:
        """Name the model of the parent and that of the children."""
        return tuple(dict.fromkeys((self.model, self.child_model)))

    async def thread(self, question: str, number: int, context: Context) -> Thread:
        """Let the parent work, with all its children."""
        what = f"parent {number + 1}"
        grown = await self.grow(context, self.model, "spawn", {"question": quoted(question)}, self.depth, None, what)
        measures = {"joins": grown.joins, "spawned": grown.spawned, "found": grown.found}
        if grown.end is not None:
            return Thread(grown.end, grown.notes, grown.failures, measures)
        first = number if grown.first is None else grown.first
        steps = [step for round_ in grown.rounds for step in round_.steps]
        solved = await self.answer_from(context, self.model, question, steps, what=f"{what}, answer", first=first)
        return Thread(solved.sample, [*grown.notes, *solved.notes], [*grown.failures, *solved.failures], measures)

    async def work(self, task: str, level: int, first: int, context: Context, what: str) -> Grown:
        """Let a child work, with all its children."""
        return await self.grow(context, self.child_model, "spawn_child", {"task": task}, level, first, what)

    def _most_calls(self, level: int) -> int:
        return 1 if level == 0 else self.joins + 1 + self.joins * self.width * self._most_calls(level - 1)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell at least the parent's first reply, at most the whole tree and one answer more."""
        asked = spread(
            [
                estimator.completion(self.model, self.sampling(), "spawn"),
                estimator.completion(self.child_model, self.sampling(), "spawn_child"),
            ]
        )
        rounds = self.rounds_tokens(asked)
        parent = self._foretell(
            estimator, self.model, "spawn", {"question": ""}, shape.question, rounds, Range(1, 2, self.joins + 1)
        )
        children = self._most_calls(self.depth) - self.joins - 1
        task = Range(1, asked.likely / 4, min(asked.high, LONGEST_INPUT))
        child = self._foretell(
            estimator,
            self.child_model,
            "spawn_child",
            {"task": ""},
            task,
            rounds if self.depth > 1 else Range(0, 0, 0),
            Range(0, min(self.width, children) / 2, children),
        )
        solver = self.foretell_answer(
            estimator,
            self.model,
            steps=self.joins * self.width,
            least=shape.question,
            most=shape.question.plus(rounds),
            calls=Range(0, 0.1, 1),
        )
        tokens = spread([parent.completion_tokens, solver.completion_tokens])
        return NodePlan((parent, child, solver), self.handed_on(shape, tokens))

    def _foretell(
        self,
        estimator: Estimator,
        model: str,
        template: str,
        variables: Mapping[str, object],
        least: Range,
        rounds: Range,
        calls: Range,
    ) -> CallPlan:
        return self.foretell_growing(
            estimator,
            model,
            template,
            lambda count: {**variables, **self.blank_rounds(count)},
            steps=self.joins if rounds.high else 0,
            least=least,
            most=least.plus(rounds),
            calls=calls,
        )
