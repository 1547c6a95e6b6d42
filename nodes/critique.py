"""Critique: strengths and weaknesses of every candidate, in one call."""

from __future__ import annotations

from dataclasses import replace

from nodes.base import Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import failure_notes, needed
from nodes.parsing import read_critiques
from nodes.planning import listing
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted, shown

__all__ = ["Critique"]


@technique("critique")
class Critique(OneModel):
    """Let one model write a critique of each candidate, in one call that shows all of them.

    The candidates stay as they are and in their order; each takes its critique with it, through ranking and choosing,
    until it is replaced by a new candidate. A candidate on which the reply has no section keeps what it had and is
    noted; so are all of them where the call failed.

    When to use it: in front of a rank, a fuse or a refine, which read critiques. It costs one call however many
        candidates there are. With models of about 7B it tends to hurt what follows.
    Calls: 1.
    Paper: Archon: An Architecture Search Framework for Inference-Time Techniques (arXiv 2409.15254), component
        "critic".
    Symbols: none.
    Example:
        ```yaml
        name: critic-rank-fuse
        layers:
          - generate: {model: [fast, strong], samples: 4, temperature: 0.8}
          - critique: {model: strong}
          - rank: {model: strong, keep: 3}
          - fuse: {model: strong}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"critiques"})

    async def run(self, state: State, context: Context) -> State:
        """Ask once; raises `InsufficientCandidates` where there are no candidates."""
        candidates = needed(state, context.node)
        variables = {"question": quoted(state.question), "candidates": shown(candidates, critiques=False)}
        asked = await self.ask(context, "critique", variables)
        if not asked.samples:
            return state.noted(*failure_notes(context.node, asked.failures, "critique"))
        found = read_critiques(asked.samples[0].completion.text, len(candidates))
        critiques = found or (None,) * len(candidates)
        missing = [c.id for c, critique in zip(candidates, critiques, strict=True) if critique is None]
        notes = [Note(context.node, "unparsed", f"no critique of {', '.join(missing)} in the reply")] if missing else []
        criticised = tuple(
            replace(c, critique=critique) if critique is not None else c
            for c, critique in zip(candidates, critiques, strict=True)
        )
        return replace(state, candidates=criticised).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call; its tokens are shared out over the candidates."""
        blank, inserted = listing(shape, critiques=False)
        call = self.foretell(estimator, "critique", {"question": "", "candidates": blank}, inserted, exactly(1))
        # One critique may take up nearly the whole reply, so only the likely length is a share of it.
        reply = call.completion_tokens
        tokens = Range(0, reply.likely / len(blank), reply.high)
        return NodePlan((call,), shape._replace(critique_tokens=tokens))
