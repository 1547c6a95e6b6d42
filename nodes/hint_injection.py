"""Hint injection: a stronger model finds the flaw in a response and says a word; the cheaper one goes on from there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from nodes.base import Candidate, Capability, Context, Estimator, NodePlan, Note, Range, Shape, State
from nodes.calls import candidate_of, failure_notes, needed, together
from nodes.drawing import generate_variables
from nodes.planning import fresh, spread
from nodes.registry import technique
from nodes.settings import ModelName, OneModel
from nodes.shown import Shown, quoted
from providers.base import Asked, Sampling

__all__ = ["Advice", "HintInjection", "read_advice"]

_SOUND = re.compile(r"\W*(?:right|correct|sound|no (?:flaw|error|mistake)s?|none)\W*", re.IGNORECASE)
_FLAW = re.compile(r"^[^\w\n]*flaw[^\w\n:]*:[*_]*[ \t]*(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE)
_HINT = re.compile(r"^[^\w\n]*hint[^\w\n:]*:[*_]*[ \t]*(\S.*)\Z", re.IGNORECASE | re.MULTILINE | re.DOTALL)
_CRITIQUE = re.compile(r"\[1\][ \t]*(\S.*)", re.DOTALL)
_QUOTES = "\"'“”„‘’«» \t"


class Advice(NamedTuple):
    """What the expert says of a response."""

    is_sound: bool
    flaw: str | None
    """The passage that is wrong, word for word, where the expert quotes one."""
    hint: str | None
    """None only where the response is sound."""


class _Advised(NamedTuple):
    advice: Advice | None
    """None where the expert's call failed or its reply could not be read."""
    tokens: float
    """Tokens of the hint, the expert's reply shared out by length."""
    notes: list[Note]


class _Thread(NamedTuple):
    """A candidate on its way through the rounds."""

    candidate: Candidate
    is_done: bool
    hint_tokens: float
    own_tokens: float
    """Tokens that the model wrote after hints."""
    notes: tuple[Note, ...]


@technique("hint_injection")
class HintInjection(OneModel):
    """Let an expert find the first flaw of each candidate and give a short hint, with which the model goes on.

    The expert writes no solution: it quotes the first wrong passage and says in a few words what to mind, or finds
    the response sound, and then nothing more is spent on it. `redo` shows the model its response with the hint and lets
    it answer again. `continue` cuts the response before the flawed passage, puts the hint in its place, and lets the
    model write on from the next line (which asks for `prefix_continuation`); where the expert quotes nothing that
    stands in the response, the whole response stays in front of the hint, and a note says so. After each answer the
    expert looks again, up to `rounds` times. A candidate whose calls fail, or on which the expert's reply cannot be
    read, stays as it is, noted. The critique of the embedded judge serves as its hint, in `redo` alone.

    When to use it: with a dear model that sees errors and a cheap one that writes: the dear one writes few tokens. It
        does nothing where the cheap one cannot use a hint.
    Calls: at most 2·n·r: n for the expert in every round, and one for every response that it finds flawed.
    Paper: CALM Before the STORM: Unlocking Native Reasoning for Optimization Modeling (arXiv 2510.04204), where hints
        make training data; here they work at inference time.
    Symbols: n is the number of candidates that come in, r is `rounds`. `hinted` = candidates that got a hint / n;
        `hint_share` = tokens of hints / tokens of hints and of what the model wrote after them (0 without hints).
    Example:
        ```yaml
        name: supervised
        layers:
          - generate: {model: fast, samples: 4, temperature: 0.8}
          - hint_injection: {model: fast, expert: strong, rounds: 2}
          - vote
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"hint_share", "hinted"})
    composes = True
    example_replies: ClassVar[Mapping[str, str]] = {"hint": "Flaw: Way 1 of counting\nHint: Count the rows first."}

    expert: ModelName = Field(description="The model that finds flaws and gives hints.")
    mode: Literal["redo", "continue"] = Field(default="redo", description="Answer again, or write on from the flaw.")
    rounds: int = Field(default=1, ge=1, le=8, description="How often the expert looks at most.")
    hint_tokens: int | None = Field(default=None, ge=1, description="Most tokens of one reply of the expert.")

    def models(self) -> tuple[str, ...]:
        """Name the model and the expert."""
        return tuple(dict.fromkeys((self.model, self.expert)))

    def required_of(self, model: str) -> frozenset[Capability]:
        """Writing on behind a hint is for the model, not for the expert."""
        needs_prefix = self.mode == "continue" and model == self.model
        return frozenset({"prefix_continuation"}) if needs_prefix else frozenset()

    async def run(self, state: State, context: Context) -> State:
        """Supervise all candidates at once; raises `InsufficientCandidates` where none came in."""
        threads = [_Thread(_plain(candidate), False, 0.0, 0.0, ()) for candidate in needed(state, context.node)]
        number = 1
        for _ in range(self.rounds):
            threads, number = await self._round(state.question, threads, number, context), number + len(threads)
        hints = sum(thread.hint_tokens for thread in threads)
        written = hints + sum(thread.own_tokens for thread in threads)
        hinted = sum(thread.hint_tokens > 0 for thread in threads) / len(threads)
        notes = [note for thread in threads for note in thread.notes]
        candidates = tuple(thread.candidate for thread in threads)
        measured = replace(state, candidates=candidates).measured(
            hinted=hinted, hint_share=hints / written if written else 0.0
        )
        return measured.noted(*notes)

    async def _round(self, question: str, threads: Sequence[_Thread], number: int, context: Context) -> list[_Thread]:
        # The expert looks at all before any model goes on, so that the order of calls is fixed.
        looking = [place for place, thread in enumerate(threads) if not thread.is_done]
        advised = await together(self._advise(question, threads[place].candidate, context) for place in looking)
        after = list(threads)
        going = []
        for place, (advice, tokens, notes) in zip(looking, advised, strict=True):
            thread = threads[place]
            needs_more = advice is not None and advice.hint is not None
            after[place] = thread._replace(
                is_done=not needs_more,
                hint_tokens=thread.hint_tokens + tokens,
                notes=(*thread.notes, *notes),
            )
            if advice is not None and needs_more:
                going.append((place, advice))
        went = await together(
            self._go_on(question, after[place], advice, number + place, context) for place, advice in going
        )
        for (place, _), thread in zip(going, went, strict=True):
            after[place] = thread
        return after

    async def _advise(self, question: str, candidate: Candidate, context: Context) -> _Advised:
        asked = await context.ask(
            self.expert,
            "hint",
            _hint_variables(quoted(question), quoted(candidate.text)),
            sampling=self._expert_sampling(),
        )
        if not asked.samples:
            return _Advised(None, 0.0, failure_notes(context.node, asked.failures, f"hint on {candidate.id}"))
        completion = asked.samples[0].completion
        advice = read_advice(completion.text)
        if advice is None:
            note = Note(context.node, "unparsed", f"no hint in the reply on {candidate.id}; it stays as it is")
            return _Advised(None, 0.0, [note])
        share = len(advice.hint or "") / max(1, len(completion.text))
        return _Advised(advice, completion.usage.completion_tokens * min(1.0, share), [])

    async def _go_on(self, question: str, thread: _Thread, advice: Advice, number: int, context: Context) -> _Thread:
        candidate = thread.candidate
        if self.mode == "redo":
            made, asked = await self._redo(question, candidate, advice, number, context)
            notes: list[Note] = []
        else:
            kept, notes = _cut(candidate, advice, context.node)
            made, asked = await self._write_on(question, candidate, f"{kept}{advice.hint}\n", number, context)
        notes += failure_notes(context.node, asked.failures, f"with a hint on {candidate.id}")
        if made is None:
            return thread._replace(is_done=True, notes=(*thread.notes, *notes))
        own = thread.own_tokens + asked.samples[0].completion.usage.completion_tokens
        return thread._replace(candidate=made, own_tokens=own, notes=(*thread.notes, *notes))

    async def _redo(
        self, question: str, candidate: Candidate, advice: Advice, number: int, context: Context
    ) -> tuple[Candidate | None, Asked]:
        asked = await self.ask(
            context, "hinted", _redo_variables(quoted(question), quoted(candidate.text), quoted(advice.hint or ""))
        )
        made = [candidate_of(sample, context.node, number, (candidate.id,)) for sample in asked.samples]
        return (made[0] if made else None), asked

    async def _write_on(
        self, question: str, candidate: Candidate, prefix: str, number: int, context: Context
    ) -> tuple[Candidate | None, Asked]:
        asked = await context.ask(
            self.model,
            "generate",
            generate_variables(question),
            sampling=self.sampling(),
            system=self.system,
            prefix=prefix,
        )
        made = [candidate_of(sample, context.node, number, (candidate.id,)) for sample in asked.samples]
        return (_joined(candidate, prefix, made[0]) if made else None), asked

    def _expert_sampling(self) -> Sampling:
        return Sampling(max_tokens=self.hint_tokens)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell a look at every candidate, and at most one more and one answer for each round."""
        n, looks = shape.candidates, self.rounds
        hint = estimator.completion(self.expert, self._expert_sampling(), "hint")._replace(low=0)
        template = "hinted" if self.mode == "redo" else "generate"
        reply = estimator.completion(self.model, self.sampling(), template)
        text = self._text(shape.candidate_tokens, hint, reply)
        expert = estimator.call(
            self.expert,
            "hint",
            _hint_variables("", ""),
            inserted=shape.question.plus(text),
            calls=Range(n.low, n.likely * (1 + looks) / 2, n.high * looks),
            sampling=self._expert_sampling(),
        )
        going = Range(0, n.likely * looks / 2, n.high * looks)
        if self.mode == "redo":
            inserted, variables = shape.question.plus(text).plus(hint), _redo_variables("", "", "")
        else:
            inserted, variables = shape.question.plus(text._replace(low=0)).plus(hint), generate_variables("")
        answer = self.foretell(estimator, template, variables, inserted, going)
        return NodePlan((expert, answer), fresh(shape, n, text))

    def _text(self, came_in: Range, hint: Range, reply: Range) -> Range:
        """Tokens of a candidate before, between and after the rounds."""
        if self.mode == "redo":
            return spread([came_in, reply])
        grown = hint.plus(reply)
        return Range(min(came_in.low, reply.low), came_in.likely, came_in.high + self.rounds * (grown.high + 1))


def read_advice(text: str) -> Advice | None:
    """Read what an expert says: `Sound`, or `Flaw: …` and `Hint: …`; of a critique `[1] …` all is the hint."""
    clean = text.strip()
    if _SOUND.fullmatch(clean):
        return Advice(True, None, None)
    if match := _HINT.search(clean):
        if _SOUND.fullmatch(match[1]):
            return Advice(True, None, None)
        flaw = _FLAW.search(clean)
        return Advice(False, flaw[1].strip(_QUOTES) or None if flaw else None, match[1].strip())
    if match := _CRITIQUE.fullmatch(clean):
        return Advice(True, None, None) if _SOUND.fullmatch(match[1]) else Advice(False, None, match[1].strip())
    return None


def _cut(candidate: Candidate, advice: Advice, node: str) -> tuple[str, list[Note]]:
    """Return the text in front of the flawed passage, or all of it where the passage is not found in it."""
    place = candidate.text.find(advice.flaw) if advice.flaw else -1
    if place >= 0:
        return candidate.text[:place], []
    note = Note(node, "fallback", f"the flaw is not quoted from {candidate.id}; the hint stands at its end")
    return candidate.text.rstrip() + "\n", [note]


def _joined(before: Candidate, prefix: str, behind: Candidate) -> Candidate:
    # The prefix weighs by its length what the response that it is mostly cut from weighed; unknown tokens stay so.
    known = before.completion_tokens * len(prefix) / max(1, len(before.text))
    tokens = round(known) + behind.completion_tokens if known else 0
    return replace(behind, text=prefix + behind.text, completion_tokens=tokens)


def _plain(candidate: Candidate) -> Candidate:
    return replace(
        candidate,
        critique=None,
        verdict=None,
        verdict_reason=None,
        tests_passed=(),
        scores=MappingProxyType({}),
        sources=MappingProxyType({}),
    )


def _hint_variables(question: str, text: str) -> Mapping[str, object]:
    # A list of one, since the compact style asks for the critique of a lone candidate.
    return {"question": question, "candidates": [Shown(1, text, None)]}


def _redo_variables(question: str, text: str, hint: str) -> Mapping[str, object]:
    # For the compact style, which refines by a critique, the hint is one (and is weighed as one when it is blank).
    return {"question": question, "candidate": text, "critique": hint or "-"}
