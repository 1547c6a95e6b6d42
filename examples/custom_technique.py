"""A technique of one's own: best of three, of which the third is asked only where the first two disagree.

    python examples/custom_technique.py

It is held to the contract that the built-in ones are held to, planned before it is paid, and compared with a majority
of three, from which it differs in calls alone: the vote of the third could not change what two agree on.
"""

# Prints: the contract holds
# Prints: same answers on 40 of 40

import tempfile
from dataclasses import replace

import colonnade
from nodes import Context, Estimator, NodePlan, Range, Shape, State, exactly, technique
from nodes.ballots import read_answers
from nodes.calls import nothing_left
from nodes.contract import CONTRACT
from nodes.drawing import Drawing
from nodes.planning import fresh
from nodes.probe import probes
from nodes.settling import settle


@technique("third_if_needed")
class ThirdIfNeeded(Drawing):
    """Ask twice, ask a third time where the two disagree, and vote.

    When to use it: in place of a majority of three, always.
    Calls: 2 or 3.
    Paper: none.
    Symbols: `drawn` = samples that came.
    Example:
        ```yaml
        layers:
          - third_if_needed: {model: embedded/mini}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    measures = frozenset({"drawn"})

    async def run(self, state: State, context: Context) -> State:
        """Draw, and draw again where that can matter."""
        first = await self.draw(context, state, 2)
        read = read_answers(first.candidates, context.answer_kind, context.node)
        candidates, notes, failures = read.candidates, [*first.notes, *read.notes], first.failures
        if len({candidate.answer for candidate in candidates}) != 1 or len(candidates) < 2:
            third = await self.draw(context, state, 1, number=3)
            more = read_answers(third.candidates, context.answer_kind, context.node)
            candidates, failures = (*candidates, *more.candidates), (*failures, *third.failures)
            notes += [*third.notes, *more.notes]
        if not candidates:
            raise nothing_left(context.node, failures)
        settled = settle(candidates, context.node)
        return (
            replace(state, candidates=(settled.candidate,))
            .measured(drawn=len(candidates))
            .noted(*notes, *settled.notes)
        )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Two calls in one request, and perhaps a third."""
        two = self.foretell_draws(shape, estimator, exactly(2), 2)
        third = self.foretell_draws(shape, estimator, Range(0, 0.5, 1), 1)
        return NodePlan((two, third), fresh(shape, exactly(1), two.completion_tokens))


def main() -> None:
    """Check the technique, plan it, and compare it with a majority of three."""
    for probe in probes("third_if_needed"):
        for check in CONTRACT:
            check(probe)
    print(f"the contract holds: {len(CONTRACT)} checks")
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/calls.db"
        own = {"name": "third-if-needed", "layers": [{"third_if_needed": {"model": "embedded/mini"}}]}
        layers = [{"generate": {"model": "embedded/mini", "samples": 3, "temperature": 0.8}}, "vote"]
        results = []
        for spec in (own, {"name": "majority-of-3", "layers": layers}):
            architecture = colonnade.load(spec, database_url=database)
            foretold = architecture.plan("How many cups are 3 rows of 4 cups?").total.calls
            result = architecture.evaluate("arithmetic", items=40)
            assert result.evaluation.summary is not None
            summary = result.evaluation.summary
            mean = summary.calls_used / summary.items
            print(f"{spec['name']:16} {summary.accuracy:.3f}, {mean:.2f} calls ({foretold.low:g} to {foretold.high:g})")
            results.append({record.item_id: record.answer for record in result.evaluation.results})
    same = sum(results[0][item] == results[1][item] for item in results[0])
    print(f"same answers on {same} of {len(results[0])}")


if __name__ == "__main__":
    main()
