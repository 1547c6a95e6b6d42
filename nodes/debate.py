"""Debate: several agents answer, read one another's answers, and answer again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.ballots import ballots, leading, read_answers, share
from nodes.base import CallPlan, Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import candidate_of, failure_notes, nothing_left, together
from nodes.drawing import generate_variables
from nodes.planning import ENTRY_TOKENS, fresh, spread
from nodes.registry import technique
from nodes.settings import Asking, ModelName, Models
from nodes.shown import blanks, quoted, shown
from providers.base import Asked
from providers.errors import ProviderError

__all__ = ["Debate"]


class _Agent(NamedTuple):
    model: str
    said: Candidate | None
    """Its last answer; None as long as every call of it has failed."""


class _Round(NamedTuple):
    agents: list[_Agent]
    notes: list[Note]
    failures: list[ProviderError]


class _Agreed(NamedTuple):
    candidate: Candidate
    agreement: float
    notes: list[Note]


@technique("debate")
class Debate(Asking):
    """Let several agents answer, show each the last answers of the others, and let all answer again.

    The first answers are plain samples, those that `generate` draws. In every later round each agent sees its own last
    answer and those of all others, and writes a new one. An agent whose call fails stands by its last answer and is
    asked again in the next round; one that has never answered is left out. `vote` hands on one response with the
    answer that most agents hold at the end, `keep` the last response of every agent, for a judge or a vote behind.
    With `reviser` one model speaks for all agents after the first round.

    When to use it: on questions with one answer, where errors of different agents differ: with several models, or at a
        temperature above 0. It is dear, since prompts grow with the number of agents; compare it with a vote over
        as many samples.
    Calls: a·r; fewer with `until_agreed`.
    Paper: Improving Factuality and Reasoning in Language Models through Multiagent Debate (arXiv 2305.14325).
    Symbols: a is the number of agents, `agents` for each `model`; r is `rounds`, the first answers included.
        `agreement` = agents that hold the leading answer / agents that state one; `rounds` = rounds that were held.
    Example:
        ```yaml
        name: debate-vote
        layers:
          - debate: {model: [fast, strong], agents: 2, rounds: 2, final: vote}
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    draws_question = "at_start"
    measures = frozenset({"agreement", "rounds"})

    model: Models = Field(description="One model or a list; each plays `agents` agents.")
    agents: int = Field(default=3, ge=1, le=10, description="Agents of each model.")
    rounds: int = Field(default=2, ge=1, le=10, description="Rounds, that of the first answers included.")
    temperature: float | None = Field(default=0.8, ge=0, allow_inf_nan=False, description="Sampling temperature.")
    reviser: ModelName | None = Field(
        default=None, description="The model that speaks for all agents after the first round; null for their own."
    )
    until_agreed: bool = Field(default=False, description="Stop as soon as all agents state the same answer.")
    final: Literal["vote", "keep"] = Field(default="vote", description="One response by vote, or that of every agent.")

    @model_validator(mode="after")
    def _at_least_two(self) -> Self:
        if len(self.cast) < 2:
            raise ValueError("a debate needs at least 2 agents; raise `agents` or name more models")
        return self

    @property
    def cast(self) -> tuple[str, ...]:
        """The model of each agent, in order."""
        models = (self.model,) if isinstance(self.model, str) else self.model
        return tuple(model for model in models for _ in range(self.agents))

    def models(self) -> tuple[str, ...]:
        """Name the models, each once."""
        revisers = (self.reviser,) if self.reviser and self.rounds > 1 else ()
        return tuple(dict.fromkeys((*self.cast, *revisers)))

    async def run(self, state: State, context: Context) -> State:
        """Hold the debate; raises `InsufficientCandidates` where no agent ever answered."""
        agents, notes, failures = await self._open(state.question, context)
        held, number = 1, len(self.cast)
        while held < self.rounds and not (self.until_agreed and _all_agree(agents, context)):
            said = [agent for agent in agents if agent.said is not None]
            if len(said) < 2:
                notes.append(Note(context.node, "skipped", "fewer than two agents have answered; the debate ends"))
                break
            after = await self._again(state.question, said, number, context)
            agents, held, number = after.agents, held + 1, number + len(said)
            notes += after.notes
            failures += after.failures
        answers = tuple(agent.said for agent in agents if agent.said is not None)
        if not answers:
            raise nothing_left(context.node, failures)
        agreed = _agreed(answers, context)
        candidates = (agreed.candidate,) if self.final == "vote" else answers
        return (
            replace(state, candidates=candidates)
            .measured(agreement=agreed.agreement, rounds=held)
            .noted(*notes, *agreed.notes)
        )

    async def _open(self, question: str, context: Context) -> _Round:
        models = tuple(dict.fromkeys(self.cast))
        variables = generate_variables(question)
        counts = [self.cast.count(model) for model in models]
        asked = await together(
            context.ask(model, "generate", variables, n=n, sampling=self.sampling(), system=self.system)
            for model, n in zip(models, counts, strict=True)
        )
        agents: list[_Agent] = []
        notes: list[Note] = []
        failures: list[ProviderError] = []
        for model, n, batch in zip(models, counts, asked, strict=True):
            samples = list(batch.samples) + [None] * (n - len(batch.samples))
            for sample in samples:
                said = candidate_of(sample, context.node, len(agents) + 1) if sample else None
                agents.append(_Agent(model, said))
            notes += failure_notes(context.node, batch.failures, f"first answer of {model}")
            failures += batch.failures
        return _Round(agents, notes, failures)

    async def _again(self, question: str, agents: Sequence[_Agent], number: int, context: Context) -> _Round:
        answers = [agent.said for agent in agents if agent.said is not None]
        asked = await together(
            self._ask(question, place, agent, answers, context) for place, agent in enumerate(agents)
        )
        after: list[_Agent] = []
        notes: list[Note] = []
        failures: list[ProviderError] = []
        parents = tuple(answer.id for answer in answers)
        for place, (agent, batch) in enumerate(zip(agents, asked, strict=True), 1):
            said = agent.said
            if batch.samples:
                said = candidate_of(batch.samples[0], context.node, number + place, parents)
            after.append(_Agent(agent.model, said))
            notes += failure_notes(context.node, batch.failures, f"answer of agent {place} ({agent.model})")
            failures += batch.failures
        return _Round(after, notes, failures)

    async def _ask(
        self, question: str, place: int, agent: _Agent, answers: Sequence[Candidate], context: Context
    ) -> Asked:
        ordered = [answers[place], *answers[:place], *answers[place + 1 :]]
        variables = {"question": quoted(question), "candidates": shown(ordered, critiques=False)}
        model = self.reviser or agent.model
        return await context.ask(model, "debate", variables, sampling=self.sampling(), system=self.system)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call for each agent and round."""
        counts = {model: self.cast.count(model) for model in self.cast}
        calls = [self._first_calls(estimator, model, n, shape) for model, n in counts.items()]
        later = self.rounds - 1
        if later:
            tokens = spread([call.completion_tokens for call in calls])
            speakers = {self.reviser: len(self.cast)} if self.reviser else counts
            # What later rounds show may come of any model, the reviser included.
            replies = [estimator.completion(model, self.sampling(), "debate") for model in speakers]
            tokens = spread([tokens, *replies])
            few = 0 if self.until_agreed else later
            calls += [
                self._later_calls(estimator, model, Range(n * few, n * (few + later) / 2, n * later), shape, tokens)
                for model, n in speakers.items()
            ]
        tokens = spread([call.completion_tokens for call in calls])
        count = exactly(1 if self.final == "vote" else len(self.cast))
        return NodePlan(tuple(calls), fresh(shape, count, tokens))

    def _first_calls(self, estimator: Estimator, model: str, n: int, shape: Shape) -> CallPlan:
        variables: Mapping[str, object] = generate_variables("")
        return estimator.call(
            model,
            "generate",
            variables,
            inserted=shape.question,
            calls=exactly(n),
            n=n,
            sampling=self.sampling(),
            system=self.system,
        )

    def _later_calls(self, estimator: Estimator, model: str, calls: Range, shape: Shape, tokens: Range) -> CallPlan:
        shown_to_each = len(self.cast)
        texts = shape.question.plus(tokens.times(exactly(shown_to_each)))
        # Agents may be missing whose calls failed; two at least are left.
        missing = (shown_to_each - 2) * (ENTRY_TOKENS + tokens.likely)
        return estimator.call(
            model,
            "debate",
            {"question": "", "candidates": blanks(shown_to_each)},
            inserted=texts._replace(low=max(0.0, texts.low - missing)),
            calls=calls,
            sampling=self.sampling(),
            system=self.system,
        )


def _all_agree(agents: Sequence[_Agent], context: Context) -> bool:
    answers = [agent.said for agent in agents if agent.said is not None]
    read = read_answers(answers, context.answer_kind, context.node)
    return len(answers) == len(agents) == len(read.voters) and len(ballots(read.voters)) == 1


def _agreed(answers: Sequence[Candidate], context: Context) -> _Agreed:
    read = read_answers(answers, context.answer_kind, context.node)
    if not read.voters:
        return _Agreed(answers[0], 0.0, [*read.notes, Note(context.node, "fallback", "no agent states an answer")])
    counted = ballots(read.voters)
    winner = leading(counted)
    return _Agreed(winner.voters[0], share(winner, counted), read.notes)
