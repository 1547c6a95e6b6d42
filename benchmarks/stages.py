"""What the cut of a graph into stages costs and saves, against one LangGraph node per technique.

    python benchmarks/stages.py

Every node waits for as long as it is told and calls nothing, so what is left is the orchestration.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time
from typing import Any

from architectures.compile import GraphState, compile_architecture
from architectures.context import Run
from architectures.program import make_program
from architectures.spec import ArchitectureSpec, TechniqueNode
from nodes.base import Candidate, Context, Estimator, NodePlan, Shape, State, Technique
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope

ROUNDS = 200


class Pause(Technique):
    """Waits, and hands on one candidate."""

    gives = frozenset({"candidates"})
    seconds: float = 0.0

    async def run(self, state: State, context: Context) -> State:
        """Wait."""
        await asyncio.sleep(self.seconds)
        made = Candidate(id=f"{context.node}:1", text="", node=context.node, model=None)
        return State(question=state.question, candidates=(made,))

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell nothing."""
        return NodePlan((), shape)


def graph(**nodes: tuple[float, tuple[str, ...]]) -> ArchitectureSpec:
    """Make an architecture of nodes that wait for some seconds after others."""
    made = tuple(
        TechniqueNode(id=name, use="pause", settings=Pause(seconds=seconds), after=after)
        for name, (seconds, after) in nodes.items()
    )
    return ArchitectureSpec(nodes=made, output=(made[-1].id,))


def node_by_node(spec: ArchitectureSpec) -> Any:
    """Compile as LangGraph is usually used: a node for each technique, an edge for each `after`."""
    from langgraph.graph import START, StateGraph

    program = make_program(spec)
    built = StateGraph(GraphState, context_schema=Run)
    for index, node in enumerate(program.nodes):
        stage = program.stages[0]._replace(nodes=(index,), waits={})

        async def work(state: GraphState, runtime: Any, stage: Any = stage) -> dict[str, Any]:
            return {"outputs": await program.run_stage(stage, state["outputs"], state["start"], runtime.context)}

        built.add_node(f"node {node.id}", work)
        sources = [f"node {name}" for name in node.after]
        built.add_edge(sources if len(sources) > 1 else sources[0] if sources else START, f"node {node.id}")
    return built.compile()


def three_ways(spec: ArchitectureSpec, gateway: Gateway) -> list[Callable[[], Awaitable[object]]]:
    """Return one invocation each: a LangGraph node per technique, one per stage, no LangGraph."""
    start = State(question="q")
    nodes, stages, program = node_by_node(spec), compile_architecture(spec), make_program(spec)

    def run() -> Run:
        return Run(gateway=gateway, scope=Scope("r", "i"), answer_kind="auto")

    async def by_node() -> object:
        return await nodes.ainvoke({"start": start, "outputs": {}}, context=run())

    async def by_stage() -> object:
        return await stages.run("q", gateway=gateway, scope=Scope("r", "i"))

    async def bare() -> object:
        return await program.run(start, run())

    return [by_node, by_stage, bare]


async def cpu_ms(once: Callable[[], Awaitable[object]]) -> float:
    """Return the least CPU milliseconds of one invocation over five series."""
    series = []
    for _ in range(5):
        gc.collect()
        began = process_time()
        for _ in range(ROUNDS):
            await once()
        series.append((process_time() - began) / ROUNDS * 1e3)
    return min(series)


async def wall_s(once: Callable[[], Awaitable[object]]) -> float:
    """Return the wall seconds of one invocation."""
    began = perf_counter()
    await once()
    return perf_counter() - began


async def main() -> None:
    """Print a table."""
    chain = graph(**{f"n{k}": (0.0, (f"n{k - 1}",) if k else ()) for k in range(10)})
    layers = graph(**{f"n{k}": (0.0, ()) for k in range(10)}, end=(0.0, tuple(f"n{k}" for k in range(10))))
    skew = graph(slow=(0.30, ()), quick=(0.05, ()), next=(0.25, ("quick",)), end=(0.05, ("slow", "next")))
    print(f"{'':32}{'node by node':>14}{'stages':>10}{'no LangGraph':>14}")
    async with Gateway(ModelBook(env={}), None) as gateway:
        for name, spec, measure in (
            ("chain of 10, CPU ms", chain, cpu_ms),
            ("10 side by side + 1, CPU ms", layers, cpu_ms),
            ("uneven branches, wall s", skew, wall_s),
        ):
            figures = [await measure(way) for way in three_ways(spec, gateway)]
            print(f"{name:32}{figures[0]:14.2f}{figures[1]:10.2f}{figures[2]:14.2f}")


if __name__ == "__main__":
    asyncio.run(main())
