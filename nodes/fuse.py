"""Fuse: new responses made of all candidates."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from nodes.base import Context, Estimator, NodePlan, Shape, State
from nodes.calls import needed
from nodes.planning import listing
from nodes.registry import technique
from nodes.settings import SeveralModels
from nodes.shown import quoted, shown

__all__ = ["Fuse"]


@technique("fuse")
class Fuse(SeveralModels):
    """Let one or several models write new responses out of all candidates.

    Each fused response has all candidates as its parents. A critique is shown only beside the candidate that it was
    written about, so critiques of an earlier round never stand beside new candidates.

    When to use it: where the candidates hold different parts of a good response: long answers, explanations, advice.
        With models of about 7B it hurts; rank instead. Several fusers may stand one after the other as layers of a
        mixture of agents, the last of them with one model and one sample.
    Calls: m·k, in m requests.
    Paper: LLM-Blender: Ensembling Large Language Models with Pairwise Ranking and Generative Fusion (arXiv 2306.02561);
        Mixture-of-Agents Enhances Large Language Model Capabilities (arXiv 2406.04692); Archon (arXiv 2409.15254),
        component "fuser".
    Symbols: m is the number of `model`s, k is `samples`.
    Example:
        ```yaml
        name: mixture
        layers:
          - generate: {model: [fast, strong], samples: 2}
          - fuse: {model: [fast, strong]}
          - fuse: {model: strong}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})

    use_critiques: bool = Field(default=True, description="Show each candidate's critique, where it has one.")

    async def run(self, state: State, context: Context) -> State:
        """Ask all fusers; raises `InsufficientCandidates` where there is nothing to fuse or every call failed."""
        candidates = needed(state, context.node)
        variables = {
            "question": quoted(state.question),
            "candidates": shown(candidates, critiques=self.use_critiques),
        }
        parents = tuple(candidate.id for candidate in candidates)
        fused, notes = await self.make(context, "fuse", variables, parents)
        return replace(state, candidates=fused).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell m requests of k samples each."""
        blank, inserted = listing(shape, critiques=self.use_critiques)
        return self.foretell(shape, estimator, "fuse", {"question": "", "candidates": blank}, inserted)
