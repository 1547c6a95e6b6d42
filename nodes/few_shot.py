"""Few-shot: new responses after worked examples that are near the question."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from nodes.base import Capability, Context, Estimator, NodePlan, Note, Shape, State, exactly
from nodes.registry import technique
from nodes.retrieval import nearest
from nodes.settings import SeveralModels
from nodes.shots import Shots, between, pruned, shot_variables

__all__ = ["FewShot"]


@technique("few_shot")
class FewShot(Shots, SeveralModels):
    """Ask for new responses with worked examples before the question, cut down to a budget of tokens.

    `choose: nearest` takes the examples that are nearest to the question, the nearest last, right before it; `fixed`
    takes the first ones in their order for every question. Where they are more than `budget` tokens (estimated at four
    bytes each), whole examples go first, by `distance` or by `usefulness`, then sentences of their reasoning; the
    paper's pruner is trained for that, this one is not, and the paper's figures do not carry over. With no example
    left the prompt is that of `generate`, and so are the samples. Reasoning models are better asked without examples.
    The embedded models cannot play this role: they know no prompt with examples.

    When to use it: where a model knows the task but not the form or the way of thinking that is wanted, and solved
        examples of it are at hand.
    Calls: m·k; with `by: embeddings` 2 vectors more, and N the first time.
    Paper: Boosting LLM Reasoning: Push the Limits of Few-shot Learning with Reinforced In-Context Pruning (CoT-Max,
        arXiv 2312.08901); nearest examples as in What Makes Good In-Context Examples for GPT-3? (arXiv 2101.06804).
    Symbols: m is the number of `model`s, k is `samples`, N the number of examples at hand. Measures: `shots` shown, and
        `shot_tokens`, their estimated tokens.
    Example:
        ```yaml
        name: few-shot-vote
        layers:
          - few_shot:
              model: fast
              samples: 4
              temperature: 0.8
              shots: 2
              examples:
                - {question: "What is 3 + 4?", reasoning: "3 and 4 are 7.", answer: "7"}
                - {question: "A box holds 6 eggs. How many hold 3?", reasoning: "3 times 6 is 18.", answer: "18"}
                - {question: "Ann had 9 cups and broke 2. How many?", reasoning: "9 less 2 is 7.", answer: "7"}
          - vote
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"shot_tokens", "shots"})
    vital = frozenset({"generate"})

    shots: int = Field(default=4, ge=0, le=64, description="Most examples that are shown.")
    choose: Literal["nearest", "fixed"] = Field(
        default="nearest", description="The nearest to each question, or the first ones for all."
    )
    budget: int | None = Field(default=None, ge=0, description="Most estimated tokens of all examples; null for all.")
    drop: Literal["distance", "usefulness"] = Field(
        default="distance", description="Which example goes first over the budget: the farthest or the least useful."
    )
    least: int = Field(default=1, ge=1, le=64, description="Examples that are left when reasoning begins to be cut.")

    def models(self) -> tuple[str, ...]:
        """Name the models that answer, then the one that gives vectors."""
        return tuple(dict.fromkeys((*super().models(), *self.embedders())))

    def embedders(self) -> tuple[str, ...]:
        """Name the embedding model, where the examples are chosen by it."""
        return super().embedders() if self.choose == "nearest" and self.shots else ()

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the node needs of the models that answer."""
        return frozenset() if model not in self.model_list else self.required()

    async def run(self, state: State, context: Context) -> State:
        """Choose examples and ask all models; raises `InsufficientCandidates` where every call failed."""
        pool = self.pool()
        notes: list[Note] = []
        if self.choose == "fixed" or not self.shots:
            picked, near = list(pool[: self.shots]), [0.0] * min(self.shots, len(pool))
        else:
            (scores,), notes = await self.compare(context, [state.question], [shot.question for shot in pool])
            order = nearest(scores, self.shots)
            picked, near = [pool[position] for position in order], [scores[position] for position in order]
        left = pruned(picked, near, self.budget, drop=self.drop, least=self.least)
        if self.choose == "nearest":
            left.reverse()
        made = await self.make(context, "generate", shot_variables(state.question, left))
        measured = replace(state, candidates=made.candidates).measured(
            shots=len(left), shot_tokens=sum(shot.tokens for shot in left)
        )
        return measured.noted(*notes, *made.notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell m requests of k samples each; prompts from those of the least examples to those of the longest."""
        pool = sorted(self.pool(), key=lambda shot: len(shot.question.encode()) + len(shot.answer.encode()))
        count = min(self.shots, len(pool))
        if self.choose == "fixed":
            pool = list(self.pool()[:count])
        shortest = () if self.budget is not None else tuple(pool[:count])
        longest = tuple(pool[len(pool) - count :])
        low, high = (
            self.foretell(shape, estimator, "generate", shot_variables("", picked), shape.question)
            for picked in (shortest, longest)
        )
        calls = tuple(
            replace(most, prompt_tokens=between(least.prompt_tokens, most.prompt_tokens))
            for least, most in zip(low.calls, high.calls, strict=True)
        )
        compared = self.foretell_compare(estimator, exactly(1), shape.question, [shot.question for shot in self.pool()])
        return NodePlan((*compared, *calls), high.shape)
