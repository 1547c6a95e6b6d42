"""CHOPS, checklisted one-pass selection: a judge writes a checklist, then picks among all candidates at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from pydantic import Field

from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State
from nodes.calls import failure_notes, needed
from nodes.parsing import Ranking, read_ranking
from nodes.planning import kept, listing
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted, shown

__all__ = ["Chops", "read_pick"]

_LABEL = re.compile(
    r"\b(?:best|final|pick|ranking|selected|winner)(?: (?:candidates?|responses?|answer|choice|ones?|pick))?[*_ \t]*"
    r":[*_` \t]*(\S[^\n]*)",
    re.IGNORECASE,
)
_FIRST = re.compile(r"(?:(?:candidate|response|answer|option)[ \t]*)?[\[(][ \t]*(\d{1,4})[ \t]*[\])]", re.IGNORECASE)


class _Picked(NamedTuple):
    places: Mapping[int, float]
    """The score, above 0, of each candidate that was picked, by its position."""
    otherwise: float
    notes: list[Note]


@technique("chops")
class Chops(OneModel):
    """Let a judge write a checklist for the task, compare all candidates by it in one call, and keep its pick.

    The checklist says what a good response to this question must have; it is written before the candidates are judged,
    so that all are measured by the same points. One reply holds both. With `keep` above 1 the judge names so many, best
    first. The first pick has the score 1, the last of k picks 1/k, all others 0. Where the pick cannot be read, or the
    call fails, the order that came in is kept, all scores are 0.5, and a note says so: behind `hedged_generate` the
    greedy sample goes on then. A lone candidate is not asked about. The compact style has no checklist: the embedded
    judge ranks, and its first are the pick.

    When to use it: to choose among samples of open tasks, where answers cannot be voted on and a call for each
        candidate is too dear: it is one call whatever their number, as long as all fit into the judge's context.
    Calls: 1; 0 for a lone candidate.
    Paper: When Life Gives You Samples: The Benefits of Scaling up Inference Compute for Multilingual LLMs (arXiv
        2506.20544), Checklisted One-Pass Selection; the scores and `keep` above 1 are ours.
    Symbols: `keep` is k, 1 in the paper.
    Example:
        ```yaml
        name: hedged-chops
        layers:
          - hedged_generate: {model: fast, samples: 4}
          - chops: {model: strong}
        ```
    """

    needs = frozenset({"candidates"})
    reads = frozenset({"critiques"})
    gives = frozenset({"scores"})
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"chops": "Checklist:\n- The number of cups is right.\n\nOnly the last is right.\nBest: [4] > [2] > [1]"}
    )

    keep: int = Field(default=1, ge=1, description="How many are picked and handed on.")
    use_critiques: bool = Field(default=True, description="Show each candidate's critique, where it has one.")

    async def run(self, state: State, context: Context) -> State:
        """Pick; raises `InsufficientCandidates` where there are no candidates."""
        candidates = needed(state, context.node)
        if len(candidates) == 1:
            picked = _Picked({0: 1.0}, 0.0, [Note(context.node, "skipped", "a lone candidate needs no selection")])
        else:
            picked = await self._pick(state.question, candidates, context)
        scored = [c.scored(context.node, picked.places.get(i, picked.otherwise)) for i, c in enumerate(candidates)]
        scored.sort(key=lambda candidate: -candidate.scores[context.node])
        return replace(state, candidates=tuple(scored[: self.keep])).noted(*picked.notes)

    async def _pick(self, question: str, candidates: Sequence[Candidate], context: Context) -> _Picked:
        count = len(candidates)
        wanted = min(self.keep, count)
        listed = shown(candidates, critiques=self.use_critiques)
        asked = await self.ask(context, "chops", {"question": quoted(question), "candidates": listed, "keep": wanted})
        if not asked.samples:
            fallback = Note(context.node, "fallback", "no pick came; the order is kept and all scores are equal")
            return _Picked({}, 0.5, [*failure_notes(context.node, asked.failures, "chops"), fallback])
        pick = read_pick(asked.samples[0].completion.text, count)
        if pick is None:
            detail = "the reply names no candidate as the best; the order is kept and all scores are equal"
            return _Picked({}, 0.5, [Note(context.node, "unparsed", detail)])
        named = pick.order[: min(pick.named, wanted)]
        scores = {position: (wanted - place) / wanted for place, position in enumerate(named)}
        detail = f"the reply picks {len(named)} of {wanted}; others follow in their order"
        return _Picked(scores, 0.0, [Note(context.node, "fallback", detail)] if len(named) < wanted else [])

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call."""
        if shape.candidates.high < 2:
            return NodePlan((), kept(shape, self.keep))
        blank, inserted = listing(shape, critiques=self.use_critiques)
        variables = {"question": "", "candidates": blank, "keep": min(self.keep, len(blank))}
        calls = Range(*(1 if count >= 2 else 0 for count in shape.candidates))
        return NodePlan((self.foretell(estimator, "chops", variables, inserted, calls),), kept(shape, self.keep))


def read_pick(text: str, count: int) -> Ranking | None:
    """Read which of `count` candidates a reply picks, from the last `Best: [2]` or `Best: [2] > [1]`.

    Numbers elsewhere in the reply are points of the checklist or arguments, and are not read; a reply of nothing but a
    number, or an order, is.
    """
    if labelled := _LABEL.findall(text):
        if found := read_ranking(f"Ranking: {labelled[-1]}", count):
            return found
        first = _FIRST.match(labelled[-1])
        return read_ranking(f"Ranking: [{first.group(1)}]", count) if first else None
    return read_ranking(text, count) if len(text.strip().splitlines()) == 1 else None
