"""The spans of a run: one for the architecture on a question, one for each node, with the sums of what lies below.

The sums are named `colonnade.total.*`: the attempts below carry the conventions' `gen_ai.usage.*`, and a backend that
adds those up must not meet the same tokens again in their parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from providers.tally import Tally
from providers.telemetry import Span, span, totals_attributes

if TYPE_CHECKING:
    from architectures.spec import AnyNode
    from providers.scope import Scope
    from providers.tally import Totals

__all__ = ["node_span", "workflow_span"]


def workflow_span(name: str, scope: Scope) -> AbstractContextManager[object]:
    """Open the span of an architecture on one question."""
    opened = span(
        f"invoke_workflow {name}",
        {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": name,
            "colonnade.run.id": scope.run_id,
            "colonnade.item.id": scope.item_id,
        },
    )
    # One that is not recorded is still the parent of what follows, which a sampler drops with it.
    return _summed(opened, "", scope) if opened.recording else opened


def node_span(node: AnyNode, name: str, scope: Scope) -> AbstractContextManager[object]:
    """Open the span of a node; `name` is its id with those of the nodes around it before it."""
    opened = span(
        f"node {node.id}",
        {
            "colonnade.node.id": name,
            "colonnade.node.kind": node.kind,
            "colonnade.node.technique": node.use if node.kind == "technique" else "",
        },
    )
    return _summed(opened, name, scope) if opened.recording else opened


@contextmanager
def _summed(opened: Span, name: str, scope: Scope) -> Iterator[None]:
    """Keep a span open, and give it at its end the sums of what its node, or those in it, used meanwhile."""
    used, failed = len(scope.samples), len(scope.failures)
    with opened:
        try:
            yield
        finally:
            opened.set(totals_attributes(_since(scope, name, used, failed)))


def _since(scope: Scope, name: str, used: int, failed: int) -> Totals:
    tally = Tally()
    for node, sample in scope.samples[used:]:
        if _within(node, name):
            tally.add(sample.completion.usage, sample.cost, paid=not sample.cached)
    tally.failures = sum(_within(node, name) for node, _ in scope.failures[failed:])
    return tally.totals()


def _within(node: str, name: str) -> bool:
    return not name or node == name or node.startswith(f"{name}.")
