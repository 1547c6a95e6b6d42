"""Generate: new responses to the question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from nodes.base import Capability, Context, Estimator, NodePlan, Shape, State
from nodes.registry import technique
from nodes.settings import SeveralModels
from providers.base import Sampling

__all__ = ["Example", "Generate"]


class Example(BaseModel):
    """A worked example that stands before the question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    answer: str


@technique("generate")
class Generate(SeveralModels):
    """Ask one or several models for new responses to the question.

    Every model gets one request for all its samples, and all models are asked at the same time. The responses take
    the place of candidates that came in; unit tests stay in the state and, with `show_tests`, stand in the prompt.
    Without examples and tests the prompt of the default style is the question and nothing else.

    When to use it: as the first step of every architecture, and later as a second opinion, for instance of a stronger
        model where a vote was not sure. Several samples are worth their price only with a step behind them that
        chooses or merges; they need a temperature above 0. What more of them would reach: `colonnade coverage RUN`.
    Calls: m·k, in m requests.
    Paper: Large Language Monkeys: Scaling Inference Compute with Repeated Sampling (arXiv 2407.21787); Archon
        (arXiv 2409.15254), component "generator".
    Symbols: m is the number of `model`s, k is `samples`.
    Example:
        ```yaml
        name: two-models-vote
        layers:
          - generate: {model: [fast, strong], samples: 4, temperature: 0.8}
          - vote
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    draws_question = "at_start"

    examples: tuple[Example, ...] = Field(default=(), description="Worked examples (`question`, `answer`).")
    show_tests: bool = Field(default=False, description="Show the unit tests of the state in the prompt.")
    stop: tuple[str, ...] = Field(default=(), description="Texts that end a response.")
    seed: int | None = Field(default=None, description="Base seed; sample i is drawn with seed + i.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="0: log probabilities of the chosen tokens; k: also the k likeliest."
    )

    def sampling(self) -> Sampling:
        """Return how tokens are drawn in every call of the node."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
            seed=self.seed,
            top_logprobs=self.top_logprobs,
        )

    def required(self) -> frozenset[Capability]:
        """Name what stop texts, a seed and log probabilities need of an endpoint."""
        wanted: dict[Capability, bool] = {
            "stop": bool(self.stop),
            "seed": self.seed is not None,
            "logprobs": self.top_logprobs is not None,
            "top_logprobs": bool(self.top_logprobs),
        }
        return frozenset(capability for capability, is_wanted in wanted.items() if is_wanted)

    async def run(self, state: State, context: Context) -> State:
        """Ask all models; raises `InsufficientCandidates` where every call failed."""
        variables = self._variables(state.question, state.tests if self.show_tests else ())
        candidates, notes = await self.make(context, "generate", variables)
        return replace(state, candidates=candidates).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell m requests of k samples each."""
        tests = round(shape.tests.likely) if self.show_tests else 0
        inserted = shape.question.plus(shape.tests.times(shape.test_tokens)) if self.show_tests else shape.question
        return self.foretell(shape, estimator, "generate", self._variables("", ("",) * tests), inserted)

    def _variables(self, question: str, tests: tuple[str, ...]) -> Mapping[str, object]:
        # The question goes in as it is: recorded outputs are found again by its exact text.
        return {"question": question, "examples": self.examples, "tests": tests}
