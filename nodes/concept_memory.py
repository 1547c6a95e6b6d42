"""Concept memory: new responses with what earlier items taught in view."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from nodes.base import Capability, Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.memory import Concept, read_memory, texts_of
from nodes.registry import technique
from nodes.retrieval import Retrieving, nearest
from nodes.settings import SeveralModels
from nodes.shots import between
from nodes.shown import quoted

__all__ = ["ConceptMemory"]


@technique("concept_memory")
class ConceptMemory(Retrieving, SeveralModels):
    """Ask for new responses with the stored concepts that are nearest to the question before it.

    A memory is a JSONL file that `concept_store`, at the end of an architecture, fills while a run goes on; a file that
    is not there yet is an empty one, and then the prompt is that of `generate` and so are the samples. Concepts with
    which the question shares nothing are not shown. What an item sees depends on which items came before it, so a run
    with a growing memory is repeatable only one item at a time in a fixed order; a note says so with each item. For a
    comparison, fill a memory on one part of a task and use it, without `concept_store`, on another. The embedded
    models cannot play this role: they know no prompt with concepts.

    When to use it: in long runs over items of a kind, where a lesson of one helps with another.
    Calls: m·k; with `by: embeddings` 2 vectors more, and as many as there are concepts when the memory has changed.
    Paper: ArcMemo: Abstract Reasoning Composition with Lifelong LLM Memory (arXiv 2509.04439), selection of concepts.
    Symbols: m is the number of `model`s, k is `samples`. Measure: `concepts` that were shown.
    Example:
        ```yaml
        name: with-memory
        layers:
          - concept_memory: {model: fast, file: concepts.jsonl, concepts: 4, samples: 3, temperature: 0.8}
          - vote
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"concepts"})
    vital = frozenset({"concept_memory", "generate"})

    file: str = Field(min_length=1, description="The memory, a JSONL file.")
    concepts: int = Field(default=4, ge=1, le=64, description="Most concepts that are shown.")

    def models(self) -> tuple[str, ...]:
        """Name the models that answer, then the one that gives vectors."""
        return tuple(dict.fromkeys((*super().models(), *self.embedders())))

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the node needs of the models that answer."""
        return self.required() if model in self.model_list else frozenset()

    async def run(self, state: State, context: Context) -> State:
        """Choose concepts and ask all models; raises `InsufficientCandidates` where every call failed."""
        known = read_memory(self.file).concepts
        notes: list[Note] = []
        picked: list[Concept] = []
        if known:
            (scores,), notes = await self.compare(context, [state.question], texts_of(known))
            picked = [known[position] for position in nearest(scores, self.concepts) if scores[position] > 0]
            notes.append(Note(context.node, "order", "the concepts shown depend on which items came before"))
        if picked:
            made = await self.make(context, "concept_memory", _variables(state.question, picked))
        else:
            made = await self.make(context, "generate", {"question": state.question, "examples": (), "tests": ()})
        return replace(state, candidates=made.candidates).measured(concepts=len(picked)).noted(*notes, *made.notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell m requests of k samples each, with as many concepts as the memory holds now, or none."""
        known = read_memory(self.file).concepts
        plain = self.foretell(
            shape, estimator, "generate", {"question": "", "examples": (), "tests": ()}, shape.question
        )
        if not known:
            return plain
        sizes = sorted(known, key=lambda concept: len("".join(concept).encode()))
        count = min(self.concepts, len(known))
        most = self.foretell(shape, estimator, "concept_memory", _variables("", sizes[-count:]), shape.question)
        least = self.foretell(shape, estimator, "concept_memory", _variables("", sizes[:1]), shape.question)
        maybe = Range(0, 1, 1)
        shown = tuple(
            replace(
                high,
                calls=high.calls.times(maybe),
                requests=high.requests.times(maybe),
                prompt_tokens=between(low.prompt_tokens, high.prompt_tokens),
            )
            for low, high in zip(least.calls, most.calls, strict=True)
        )
        without = tuple(
            replace(call, calls=call.calls.times(Range(0, 0, 1)), requests=call.requests.times(Range(0, 0, 1)))
            for call in plain.calls
        )
        compared = self.foretell_compare(estimator, exactly(1), shape.question, texts_of(known))
        return NodePlan((*compared, *shown, *without), most.shape)


def _variables(question: str, concepts: list[Concept]) -> dict[str, object]:
    shown = [Concept(quoted(concept.situation), quoted(concept.concept)) for concept in concepts]
    return {"question": question, "concepts": shown}
