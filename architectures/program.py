"""How an architecture runs: stage by stage, inside a stage each node as soon as what it follows is done.

A node receives the states of the nodes that it follows, joined in the order of its `after` (`architectures.joining`).
A node whose `when` does not hold is skipped and hands on nothing; where all that a node follows was skipped, it
receives what those would have received. A node that has nothing left to hand on, because its calls failed, is left
out in the same way as long as something else that the next node follows is there; else its error is the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from architectures.context import NodeContext, Run
from architectures.joining import join
from architectures.lanes import lanes
from architectures.spans import node_span
from architectures.stages import Stage, stages
from db.errors import InsufficientCandidates
from nodes.base import Note, State
from nodes.calls import together

if TYPE_CHECKING:
    from architectures.lanes import Lanes
    from architectures.spec import AnyNode, ArchitectureSpec, Condition, LoopNode

__all__ = ["Program", "Result", "make_program"]


class Result(NamedTuple):
    """What became of a node: the state that it handed on, or that it was skipped, or the error that left it empty."""

    state: State | None
    seen: State
    """What the node received; what follows a skipped node, and nothing else, receives this in its place."""
    error: InsufficientCandidates | None = None


Results = Mapping[str, Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An architecture made ready to run, as often and as concurrently as wanted."""

    nodes: tuple[AnyNode, ...]
    output: tuple[str, ...]
    stages: tuple[Stage, ...]
    path: tuple[str, ...]
    lanes: Lanes
    inner: Mapping[str, Program]
    """The programs of loops and nested architectures by node id."""

    async def run(self, start: State, run: Run, prefix: str = "") -> State:
        """Run from a state to the state of the output; raises `InsufficientCandidates` where that has nothing."""
        results: dict[str, Result] = {}
        for stage in self.stages:
            results.update(await self.run_stage(stage, results, start, run, prefix))
        return self.result(results, start)

    def result(self, results: Results, start: State) -> State:
        """Return the state of the output; raises `InsufficientCandidates` where its nodes had nothing to hand on."""
        return _received(self.output, results, start)

    async def run_stage(
        self, stage: Stage, before: Results, start: State, run: Run, prefix: str = ""
    ) -> dict[str, Result]:
        """Run the nodes of a stage, given the results of those before it."""
        if len(stage.nodes) == 1:
            node = self.nodes[stage.nodes[0]]
            return {node.id: await self._run_node(node, before, start, run, prefix)}
        results = dict(before)
        finished = {index: asyncio.Event() for index in stage.nodes}

        async def work(index: int) -> None:
            for earlier in stage.waits.get(index, ()):
                await finished[earlier].wait()
            node = self.nodes[index]
            try:
                results[node.id] = await self._run_node(node, results, start, run, prefix)
            finally:
                finished[index].set()

        await together([work(index) for index in stage.nodes])
        return {self.nodes[index].id: results[self.nodes[index].id] for index in stage.nodes}

    async def _run_node(self, node: AnyNode, results: Results, start: State, run: Run, prefix: str) -> Result:
        name = prefix + node.id
        run.go_on()
        try:
            seen = _received(node.after, results, start)
        except InsufficientCandidates as error:
            return Result(None, start, error)
        if node.when and not _holds(node.when, seen):
            run.skipped.append(name)
            return Result(None, _explained(node.when, seen, name))
        began = perf_counter()
        try:
            with node_span(node, name, run.scope):
                state = await self._work(node, seen, run, name)
        except InsufficientCandidates as error:
            run.failed[name] = str(error)
            return Result(None, seen, error)
        except Exception as error:
            run.stop(error)
            raise
        finally:
            run.seconds[name] = perf_counter() - began
        run.trace[name] = state
        return Result(state, seen)

    async def _work(self, node: AnyNode, state: State, run: Run, name: str) -> State:
        if node.kind == "technique":
            lane = self.lanes.get((*self.path, node.id), 0)
            return await node.settings.run(state, NodeContext(name, lane, run))
        if node.kind == "architecture":
            return await self.inner[node.id].run(state, run, f"{name}.")
        return await self._repeat(node, state, run, name)

    async def _repeat(self, node: LoopNode, state: State, run: Run, name: str) -> State:
        program = self.inner[node.id]
        for number in range(1, node.max + 1):
            try:
                state = await program.run(state, run, f"{name}.{number}.")
            except InsufficientCandidates as error:
                if number == 1:
                    raise
                detail = f"round {number} left nothing, round {number - 1} stands: {error}"
                return state.noted(Note(name, "fallback", detail))
            if node.until and _holds(node.until, state):
                break
        return state


def make_program(spec: ArchitectureSpec) -> Program:
    """Make an architecture ready to run."""
    return _program(spec, (), lanes(spec))


def _program(spec: ArchitectureSpec, path: tuple[str, ...], given: Lanes) -> Program:
    inner = {}
    for node in spec.nodes:
        if node.kind != "technique":
            inner[node.id] = _program(node.body if node.kind == "loop" else node.spec, (*path, node.id), given)
    return Program(
        nodes=spec.ordered, output=spec.output, stages=stages(spec.ordered), path=path, lanes=given, inner=inner
    )


def _received(after: Sequence[str], results: Results, start: State) -> State:
    """Merge what the named nodes handed on; where all of them were skipped, what they would have seen."""
    if not after:
        return start
    found = [(name, results[name]) for name in after]
    states = [result.state for _, result in found if result.state is not None]
    errors = [(name, result.error) for name, result in found if result.error is not None]
    if states:
        return join(states).noted(*(Note(name, "call_failed", str(error)) for name, error in errors))
    if errors:
        raise errors[0][1]
    return join([result.seen for _, result in found])


def _measures(state: State) -> dict[str, float]:
    return {**state.measures, "candidates": float(len(state.candidates))}


def _holds(condition: Condition, state: State) -> bool:
    return condition.holds(_measures(state))


def _explained(condition: Condition, state: State, name: str) -> State:
    """Note that a node was skipped for want of a measure, which is no decision of the architecture."""
    absent = condition.absent(_measures(state))
    if not absent:
        return state
    return state.noted(Note(name, "skipped", f"its condition reads {', '.join(absent)}, which nothing had measured"))
