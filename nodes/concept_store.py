"""Concept store: what an item taught, written to a memory for items to come."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from nodes.base import Context, Estimator, NodePlan, Note, Shape, State, exactly
from nodes.calls import failure_notes, needed
from nodes.choosing import best
from nodes.memory import Concept, item_key, read_memory, store
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted

__all__ = ["ConceptStore", "read_concept"]

_SAID = r"[^\w\n:]*:[*_]*+\s*+(?![^\w\n]*(?:situation|concept)[^\w\n:]*:)(\S.*)$"
"""What a label says, on its line or on the next one, unless that is a label itself."""
_SITUATION = re.compile(r"^[^\w\n]*situation" + _SAID, re.IGNORECASE | re.MULTILINE)
_CONCEPT = re.compile(r"^[^\w\n]*concept" + _SAID, re.IGNORECASE | re.MULTILINE)


@technique("concept_store")
class ConceptStore(OneModel):
    """Distil a concept from the best candidate and append it to a memory; the candidates go on as they are.

    A model is asked for what the solution teaches beyond its question, as one line on the situation and one on the
    concept. The line goes to the memory in one piece. An item has one at most, so a run that is resumed or repeated
    stores nothing twice (and its call comes from the cache); a concept that is there already is not stored again.
    Nothing checks that the solution is right: put a `when` on a measure such as `agreement` before this node. A reply
    that cannot be read is noted and nothing is stored. The embedded models cannot play this role.

    When to use it: as the last node of an architecture that begins with `concept_memory`.
    Calls: 1.
    Paper: ArcMemo: Abstract Reasoning Composition with Lifelong LLM Memory (arXiv 2509.04439), writing of concepts.
    Symbols: none. Measure: `concept_stored` is 1 where the item has its line in the memory, else 0.
    Example:
        ```yaml
        name: learn-on-the-way
        layers:
          - concept_memory: {model: fast, file: .colonnade/concepts.jsonl}
          - concept_store: {model: strong, file: .colonnade/concepts.jsonl}
        ```
    """

    needs = frozenset({"candidates"})
    measures = frozenset({"concept_stored"})
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"concept_store": "Situation: Things stand in rows.\nConcept: Multiply the rows by what one row holds."}
    )

    file: str = Field(min_length=1, description="The memory, a JSONL file; it is made where it is not there.")

    async def run(self, state: State, context: Context) -> State:
        """Ask for the concept and store it; raises `InsufficientCandidates` where there are no candidates."""
        candidate = best(needed(state, context.node))
        item = item_key(state.question)
        notes = [Note(context.node, "order", "what later items see depends on the order of the items")]
        variables = {"question": quoted(state.question), "candidate": quoted(candidate.text)}
        asked = await self.ask(context, "concept_store", variables)
        notes += failure_notes(context.node, asked.failures, f"concept of {candidate.id}")
        concept = read_concept(asked.samples[0].completion.text) if asked.samples else None
        if asked.samples and concept is None:
            notes.append(
                Note(context.node, "unparsed", f"no concept in the reply on {candidate.id}; nothing is stored")
            )
        if concept is not None:
            store(self.file, item, concept)
        stored = item in read_memory(self.file).items
        return state.measured(concept_stored=float(stored)).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call."""
        inserted = shape.question.plus(shape.candidate_tokens)
        variables = {"question": "", "candidate": ""}
        return NodePlan((self.foretell(estimator, "concept_store", variables, inserted, exactly(1)),), shape)


def read_concept(text: str) -> Concept | None:
    """Read the last `Concept:` line of a reply, with the last `Situation:` line; None without a concept."""
    concepts = [found.strip(" *_`") for found in _CONCEPT.findall(text)]
    situations = [found.strip(" *_`") for found in _SITUATION.findall(text)]
    concepts = [concept for concept in concepts if any(character.isalnum() for character in concept)]
    return Concept(situations[-1] if situations else "", concepts[-1]) if concepts else None
