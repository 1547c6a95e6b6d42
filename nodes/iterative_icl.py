"""Iterative in-context learning: further examples until the model is confident."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from nodes.base import Candidate, Capability, Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import candidate_of, failure_notes, nothing_left
from nodes.planning import fresh
from nodes.registry import technique
from nodes.retrieval import nearest
from nodes.settings import OneModel
from nodes.shots import Shots, between, shot_variables
from providers.base import Sampling, TokenLogprob
from providers.errors import ProviderError

__all__ = ["IterativeIcl", "confidence_of"]

_MARKS = ("answer", "\\boxed", "####")


@technique("iterative_icl")
class IterativeIcl(Shots, OneModel):
    """Answer with the nearest examples, and while the model is not confident, again with the next nearest.

    The examples are ranked by their nearness to the question and shown in batches. The confidence is the least
    probability of a token of the answer (`least`), or the geometric mean of them (`mean`); the tokens of the answer
    are those behind the last "answer", box or `####`, and all of them where there is none. The most confident response
    is handed on, with its confidence as its score. A response without log probabilities has a confidence of 0 and is
    noted. The paper shows videos; this is its loop over texts. The embedded models cannot play this role: they know no
    prompt with examples.

    When to use it: where many examples are at hand and only some questions need more of them than fit in one prompt.
    Calls: 1 to min(R, ⌈N / B⌉); with `by: embeddings` 2 vectors more, and N the first time.
    Paper: VideoICL: Confidence-based Iterative In-context Learning for Out-of-Distribution Video Understanding
        (arXiv 2412.02186).
    Symbols: N examples at hand, B is `batch`, R is `rounds`, the paper's confidence threshold is `threshold`. Measures:
        `confidence` of what is handed on, `rounds` that were asked.
    Example:
        ```yaml
        name: examples-until-sure
        layers:
          - iterative_icl:
              model: fast
              batch: 1
              rounds: 2
              examples:
                - {question: "What is 3 + 4?", reasoning: "3 and 4 are 7.", answer: "7"}
                - {question: "A box holds 6 eggs. How many hold 3?", reasoning: "3 times 6 is 18.", answer: "18"}
                - {question: "Ann had 9 cups and broke 2. How many?", reasoning: "9 less 2 is 7.", answer: "7"}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    requires: ClassVar[frozenset[Capability]] = frozenset({"logprobs"})
    measures = frozenset({"confidence", "rounds"})
    vital = frozenset({"generate"})

    batch: int = Field(default=4, ge=1, le=64, description="Examples in one prompt.")
    rounds: int = Field(default=3, ge=1, le=32, description="Most batches that are tried.")
    threshold: float = Field(default=0.7, ge=0, le=1, description="Confidence from which on the answer is taken.")
    confidence: Literal["least", "mean"] = Field(
        default="least", description="Least probability of the answer's tokens, or their geometric mean."
    )

    def models(self) -> tuple[str, ...]:
        """Name the model that answers, then the one that gives vectors."""
        return tuple(dict.fromkeys((self.model, *self.embedders())))

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the node needs of the model that answers."""
        return self.required() if model == self.model else frozenset()

    def sampling(self) -> Sampling:
        """Return how tokens are drawn, with their log probabilities."""
        return replace(super().sampling(), top_logprobs=0)

    async def run(self, state: State, context: Context) -> State:
        """Ask batch after batch; raises `InsufficientCandidates` where every call failed."""
        pool = self.pool()
        (scores,), notes = await self.compare(context, [state.question], [shot.question for shot in pool])
        order = nearest(scores, self.batch * self.rounds)
        found: list[Candidate] = []
        failures: list[ProviderError] = []
        asked = 0
        for begin in range(0, len(order), self.batch):
            shots = [pool[position] for position in reversed(order[begin : begin + self.batch])]
            reply = await self.ask(context, "generate", shot_variables(state.question, shots))
            asked += 1
            failures += reply.failures
            notes += failure_notes(context.node, reply.failures, f"generate with batch {asked} of examples")
            if reply.samples:
                candidate = candidate_of(reply.samples[0], context.node, asked)
                sure = confidence_of(candidate.logprobs, self.confidence)
                if sure is None:
                    notes.append(Note(context.node, "unparsed", f"no log probabilities in {candidate.id}; taken as 0"))
                found.append(candidate.scored(context.node, sure or 0.0))
                if found[-1].scores[context.node] >= self.threshold:
                    break
        if not found:
            raise nothing_left(context.node, failures)
        best = max(found, key=lambda candidate: candidate.scores[context.node])
        measured = replace(state, candidates=(best,)).measured(confidence=best.scores[context.node], rounds=asked)
        return measured.noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call at least and one a batch at most."""
        pool = sorted(self.pool(), key=lambda shot: len(shot.question.encode()) + len(shot.answer.encode()))
        shown = min(len(pool), self.batch * self.rounds)
        most = math.ceil(shown / self.batch)
        least = shown - self.batch * (most - 1)
        calls = Range(1, (1 + most) / 2, most)
        low, high = (
            self.foretell(estimator, "generate", shot_variables("", tuple(picked)), shape.question, calls)
            for picked in (pool[:least], pool[-min(self.batch, len(pool)) :])
        )
        call = replace(high, prompt_tokens=between(low.prompt_tokens, high.prompt_tokens))
        compared = self.foretell_compare(estimator, exactly(1), shape.question, [shot.question for shot in self.pool()])
        return NodePlan((*compared, call), fresh(shape, exactly(1), call.completion_tokens))


def confidence_of(tokens: tuple[TokenLogprob, ...] | None, kind: Literal["least", "mean"]) -> float | None:
    """Return how probable the tokens of the answer were, 0..1, or None without log probabilities."""
    if not tokens:
        return None
    text = "".join(token.token for token in tokens).lower()
    begin = max(text.rfind(mark) + len(mark) if mark in text else 0 for mark in _MARKS)
    answer: list[float] = []
    at = 0
    for token in tokens:
        behind = token.token[max(0, begin - at) :]
        at += len(token.token)
        # A token that is nothing but space or punctuation, or the end of a mark, says nothing of the answer.
        if any(character.isalnum() for character in behind):
            answer.append(token.logprob)
    chosen = answer or [token.logprob for token in tokens]
    return math.exp(min(chosen) if kind == "least" else math.fsum(chosen) / len(chosen))
