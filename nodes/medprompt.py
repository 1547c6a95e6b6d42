"""Medprompt: nearest examples with their reasoning, and a vote over orders of the choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from nodes.answers import extract
from nodes.ballots import ballots, leading, share
from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import candidate_of, failure_notes, nothing_left, together
from nodes.choices import Shuffled, read_choices, shuffles
from nodes.planning import fresh
from nodes.registry import technique
from nodes.retrieval import nearest
from nodes.settings import OneModel
from nodes.shots import Shots, between, shot_variables
from providers.base import Asked

__all__ = ["Medprompt"]

_BOX = "\\boxed"


@technique("medprompt")
class Medprompt(Shots, OneModel):
    """Ask a multiple-choice question with its choices in several orders, after worked examples, and vote.

    The examples are those nearest to the question, the nearest last, with their reasoning; `evals.few_shot` makes such
    a file by letting a model solve training items and keeping what it solved rightly. The lines `(A) …` of the question
    are put in `ensemble` different orders, the first being their own, so that a liking for a place cancels out; every
    answer is brought back to the question's own letters before it votes. What is handed on is a response to the
    question's own order where one voted for the winner; else the response to another order with its answer, in the
    question's letters, put below. A question without choices, or one of a task with numeric answers, is asked
    `ensemble` times and voted on. Answers to several orders at once need no more calls than as many samples. Reasoning
    models gain little from examples (the second paper). The embedded models cannot play this role: they know no prompt
    with examples.

    When to use it: for multiple-choice questions, with some hundreds of solved ones at hand to take examples from.
    Calls: e; with `by: embeddings` 2 vectors more, and N the first time.
    Paper: Can Generalist Foundation Models Outcompete Special-Purpose Tuning? Case Study in Medicine
        (arXiv 2311.16452); From Medprompt to o1 (arXiv 2411.03590).
    Symbols: e is `ensemble`, N examples at hand, the paper's k is `shots`. Measures: `agreement` = votes of the winner
        / all votes, `answers` that voted, `orders` of the choices that were asked.
    Example:
        ```yaml
        name: medprompt
        layers:
          - medprompt:
              model: fast
              ensemble: 5
              shots: 2
              temperature: 0.7
              examples:
                - {question: "Which is even?\\n(A) 3\\n(B) 4", reasoning: "4 is 2 times 2.", answer: "B"}
                - {question: "Which is odd?\\n(A) 7\\n(B) 8", reasoning: "7 is 2 times 3 and 1.", answer: "A"}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"agreement", "answers", "orders"})
    composes = True

    shots: int = Field(default=5, ge=0, le=64, description="Nearest examples that are shown.")
    ensemble: int = Field(default=5, ge=1, le=64, description="Orders of the choices that are asked, one sample each.")
    temperature: float | None = Field(default=0.7, ge=0, allow_inf_nan=False, description="Sampling temperature.")

    def models(self) -> tuple[str, ...]:
        """Name the model that answers, then the one that gives vectors."""
        return tuple(dict.fromkeys((self.model, *self.embedders())))

    def embedders(self) -> tuple[str, ...]:
        """Name the embedding model, where examples are shown."""
        return super().embedders() if self.shots else ()

    def own_words(self) -> frozenset[str]:
        """Name the words around an answer in the question's own letters."""
        return frozenset({"Answer", "boxed", *(chr(code) for code in range(ord("A"), ord("Z") + 1))})

    async def run(self, state: State, context: Context) -> State:
        """Ask all orders at once and vote; raises `InsufficientCandidates` where every call failed."""
        pool = self.pool()
        scores = [0.0] * len(pool)
        notes: list[Note] = []
        if self.shots:
            (scores,), notes = await self.compare(context, [state.question], [shot.question for shot in pool])
        shots = [pool[position] for position in reversed(nearest(scores, self.shots))]
        # Lettered lines of a question whose answer is a number are statements, not choices.
        choices = None if context.answer_kind == "numeric" else read_choices(state.question)
        orders = (
            shuffles(choices, self.ensemble, state.question)
            if choices
            else [Shuffled(state.question, ())] * self.ensemble
        )
        asked = await together(self.ask(context, "generate", shot_variables(order.question, shots)) for order in orders)
        voters, more = self._read(orders, asked, context)
        chosen, agreement, votes = _elected(voters)
        if not votes:
            more.append(Note(context.node, "fallback", "no response has an answer; the first is handed on"))
        return (
            replace(state, candidates=(chosen.scored(context.node, agreement),))
            .measured(agreement=agreement, answers=votes, orders=len({order.order for order in orders}))
            .noted(*notes, *more)
        )

    def _read(
        self, orders: Sequence[Shuffled], asked: Sequence[Asked], context: Context
    ) -> tuple[list[Candidate], list[Note]]:
        """Make candidates of the samples, their answers in the question's own letters, and their texts saying so."""
        found: list[Candidate] = []
        notes: list[Note] = []
        for number, (order, reply) in enumerate(zip(orders, asked, strict=True), 1):
            notes += failure_notes(context.node, reply.failures, f"generate with order {number} of the choices")
            for sample in reply.samples:
                candidate = candidate_of(sample, context.node, number)
                answer = extract(candidate.text, "choice" if order.order else context.answer_kind)
                if answer is not None and order.order:
                    answer = order.original(answer)
                if answer is None:
                    notes.append(Note(context.node, "unparsed", f"no answer in {candidate.id}"))
                elif order.order and order.order != tuple(sorted(order.order)):
                    candidate = replace(candidate, text=_in_own_letters(candidate.text, answer))
                found.append(replace(candidate, answer=answer))
        if not found:
            raise nothing_left(context.node, [failure for reply in asked for failure in reply.failures])
        return found, notes

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell e calls; prompts from those of the shortest examples to those of the longest."""
        pool = sorted(self.pool(), key=lambda shot: len(shot.question.encode()) + len(shot.answer.encode()))
        count = min(self.shots, len(pool))
        calls = exactly(self.ensemble)
        low, high = (
            self.foretell(estimator, "generate", shot_variables("", tuple(picked)), shape.question, calls)
            for picked in (pool[:count], pool[len(pool) - count :])
        )
        call = replace(high, prompt_tokens=between(low.prompt_tokens, high.prompt_tokens))
        compared = self.foretell_compare(estimator, exactly(1), shape.question, [shot.question for shot in self.pool()])
        tokens = call.completion_tokens
        longest = Range(tokens.low, tokens.likely, tokens.high + _ADDED)
        return NodePlan((*compared, call), fresh(shape, exactly(1), longest))


_ADDED = len("\n\\boxed{A}")
"""Most tokens that an answer in the question's own letters adds."""


def _elected(candidates: Sequence[Candidate]) -> tuple[Candidate, float, int]:
    """Return who stands for the winner, the winner's share of the votes, and the votes."""
    counted = ballots(candidates)
    if not counted:
        return candidates[0], 0.0, 0
    winner = leading(counted)
    # The candidates stand in the order of their orders, of which the question's own is the first.
    return winner.voters[0], share(winner, counted), sum(len(ballot.voters) for ballot in counted)


def _in_own_letters(text: str, letter: str) -> str:
    """Return a reply with its answer in the question's own letters, as the last and the readable one."""
    for stated in (f"{text}\nAnswer: {letter}", f"{text}\n{_BOX}{{{letter}}}"):
        if extract(stated, "choice") == letter:
            return stated
    # A reply in JSON is read by its first field, whatever comes behind it.
    return f"Answer: {letter}"
