"""From the architecture to a LangGraph graph, and one question through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypedDict

from architectures.check import check
from architectures.context import Run
from architectures.outcome import Outcome
from architectures.program import Program, Result, make_program
from architectures.spans import workflow_span
from db.errors import InsufficientCandidates
from nodes.base import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.graph.state import CompiledStateGraph
    from langgraph.runtime import Runtime

    from architectures.spec import ArchitectureSpec
    from architectures.stages import Stage
    from nodes.base import AnswerKind
    from providers.book import ModelBook
    from providers.gateway import Gateway
    from providers.scope import Scope

__all__ = ["CompiledArchitecture", "compile_architecture"]


def _update(outputs: dict[str, Result], more: dict[str, Result]) -> dict[str, Result]:
    return {**outputs, **more}


class GraphState(TypedDict):
    """The channels of the graph: the question's state, and the result of each node that is done."""

    start: State
    outputs: Annotated[dict[str, Result], _update]


@dataclass(frozen=True, slots=True)
class CompiledArchitecture:
    """An architecture as a LangGraph graph; can run many questions at once."""

    spec: ArchitectureSpec
    program: Program
    graph: CompiledStateGraph[GraphState, Run, GraphState, GraphState]
    """One LangGraph node per stage (`architectures.stages`), in a chain."""

    async def run(self, question: str, *, gateway: Gateway, scope: Scope, answer_kind: AnswerKind = "auto") -> Outcome:
        """Answer a question.

        Raises `InsufficientCandidates` where nothing is left to answer with, `BudgetExceeded` at the cap, and
        `UserError`s such as a refused key.
        """
        run = Run(gateway=gateway, scope=scope, answer_kind=answer_kind)
        start = State(question=question)
        with workflow_span(self.spec.name, scope):
            done = await self.graph.ainvoke(
                {"start": start, "outputs": {}}, {"recursion_limit": len(self.program.stages) + 1}, context=run
            )
            state = self.program.result(done["outputs"], start)
            if not state.candidates:
                raise InsufficientCandidates(f"The output of {self.spec.name!r} holds no candidate.")
        return Outcome(
            candidate=state.candidates[0],
            state=state,
            trace=run.trace,
            skipped=tuple(run.skipped),
            failed=run.failed,
            seconds=run.seconds,
        )


def compile_architecture(spec: ArchitectureSpec, book: ModelBook | None = None) -> CompiledArchitecture:
    """Compile an architecture, checked against a book of models where one is given; raises `SpecError`."""
    from langgraph.graph import END, START, StateGraph

    check(spec, book)
    program = make_program(spec)
    graph = StateGraph(GraphState, context_schema=Run)
    before = START
    for number, stage in enumerate(program.stages, 1):
        # With its number, a name can never be that of a channel.
        name = f"{number} {'+'.join(program.nodes[index].id for index in stage.nodes)}"
        graph.add_node(name, partial(_run_stage, program, stage))
        graph.add_edge(before, name)
        before = name
    graph.add_edge(before, END)
    return CompiledArchitecture(spec, program, graph.compile(name=spec.name))


async def _run_stage(
    program: Program, stage: Stage, state: GraphState, runtime: Runtime[Run]
) -> dict[str, Mapping[str, Result]]:
    run = runtime.context
    return {"outputs": await program.run_stage(stage, state["outputs"], state["start"], run)}
