"""Best-of-n that stops: the score that ends it, annealing, and drafts that are pruned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from architectures import compile_architecture, plan
from architectures.parse import parse
from db.errors import ColonnadeError, InsufficientCandidates
from nodes.adaptive_best_of_n import AdaptiveBestOfN
from nodes.base import State
from nodes.pruning import annealed
from nodes.testing import Prompt, Script, ScriptedContext, Tried, drafted, try_out
from providers.base import Asked, Sample, Sampling
from providers.book import ModelBook
from providers.errors import Overloaded
from providers.gateway import Gateway
from providers.scope import Scope

ASKED = State(question="How many?")


def script(*scores: float | None) -> Script:
    """Let response i be scored with the i-th number; with None it fails."""

    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.kind == "score":
            return str(scores[int(prompt.text.split("Way ")[1].split(".")[0])])
        return Overloaded("503") if scores[index] is None else f"Way {index}."

    return reply


def tried(*scores: float | None, **settings: object) -> Tried:
    return try_out(AdaptiveBestOfN.model_validate({"model": "m", **settings}), ASKED, script(*scores))


@pytest.mark.parametrize(
    ("scores", "settings", "drawn", "best"),
    [
        ((0.95,), {}, 1, "Way 0."),
        ((0.2, 0.9), {}, 2, "Way 1."),
        ((0.2, 0.5, 0.3, 0.1), {"samples": 4}, 4, "Way 1."),
        ((0.2, 0.5, 0.3, 0.8, 0.9), {"samples": 5, "batch": 2, "threshold": 0.8}, 4, "Way 3."),
        ((0.2, 0.5, 0.3, 0.1, 0.4), {"samples": 5, "batch": 2}, 5, "Way 1."),
        ((None, 0.4, 0.95), {}, 3, "Way 2."),
        ((0.5, 0.5), {"samples": 2}, 2, "Way 0."),
    ],
)
def test_it_stops_at_the_first_response_that_is_good_enough(
    scores: tuple[float | None, ...], settings: Mapping[str, float], drawn: int, best: str
) -> None:
    found = tried(*scores, **settings)
    assert found.texts == [best]
    measures = found.state.measures
    assert measures["drawn"] == drawn
    assert measures["saved"] == settings.get("samples", 16) - drawn
    assert measures["best_score"] == found.state.candidates[0].scores["here"] == max(s or 0 for s in scores[:drawn])
    assert (measures["pruned"], measures["pruned_tokens"]) == (0, 0)


def test_the_model_is_asked_whether_it_would_do_better_and_another_scorer_can_stand_in() -> None:
    found = tried(0.95)
    scored = [prompt for prompt in found.context.history if prompt.kind == "score"]
    assert [(prompt.model, prompt.template) for prompt in scored] == [("m", "self_evaluation")]
    assert "if you started over" in scored[0].text
    assert found.state.candidates[0].sources["here"] == "self_evaluation m"

    def mark(prompt: Prompt, index: int) -> str:
        return "Score: 10" if prompt.template == "judge" else "Way 0."

    judged = try_out("adaptive_best_of_n", ASKED, mark, model="m", scorer={"use": "judge", "model": "j"})
    assert judged.state.measures["best_score"] == 1.0
    assert {prompt.model for prompt in judged.context.history} == {"m", "j"}


def test_annealing_begins_greedily_and_grows_warmer() -> None:
    assert [annealed(number) for number in (1, 2, 3, 4)] == [0, 0.5, 0.75, 0.875]
    assert all(annealed(number) <= 1 for number in range(1, 3000))

    def reply(prompt: Prompt, index: int) -> str:
        return "0.1" if prompt.kind == "score" else "Way."

    found = try_out("adaptive_best_of_n", ASKED, reply, model="m", samples=4, batch=3, anneal=True)
    drawn = [prompt.sampling for prompt in found.context.history if prompt.kind == "sample"]
    assert [sampling.temperature for sampling in drawn if sampling] == [0, 0.5, 0.75, 0.875]


def test_responses_that_cannot_be_scored_end_nothing_and_the_first_is_handed_on() -> None:
    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.kind == "score" else f"Way {index}."

    found = try_out("adaptive_best_of_n", ASKED, reply, model="m", samples=3)
    assert found.texts == ["Way 0."]
    assert found.state.measures["drawn"] == 3
    assert [kind for kind, _ in found.notes] == ["call_failed"] * 3 + ["fallback"]


def test_nothing_is_left_where_every_call_fails() -> None:
    with pytest.raises(InsufficientCandidates, match=r"'here' has nothing left to hand on: 3 calls failed"):
        tried(None, None, None, samples=3, batch=2)


class Cut(ScriptedContext):
    """Ends replies where `max_tokens` would, counting a token for each character; keeps the prefixes."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.prefixes: list[str | None] = []

    async def ask(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int = 1,
        sampling: Sampling | None = None,
        first: int | None = None,
        system: str | None = None,
        prefix: str | None = None,
        cancellable: bool = False,
    ) -> Asked:
        self.prefixes.append(prefix)
        asked = await super().ask(model, template, variables, n=n, sampling=sampling, first=first, prefix=prefix)
        most = sampling.max_tokens if sampling else None
        return Asked(tuple(cut(sample, most) for sample in asked.samples), asked.failures)


def cut(sample: Sample, most: int | None) -> Sample:
    completion = sample.completion
    if most is None or len(completion.text) <= most:
        return sample
    usage = completion.usage._replace(completion_tokens=most)
    return replace(
        sample, completion=replace(completion, text=completion.text[:most], finish_reason="length", usage=usage)
    )


TEXTS = ("Bad start, ", "Good start,", "Fair start,", "Short.")


def drafts(prompt: Prompt, index: int) -> str | ColonnadeError:
    if prompt.kind == "score":
        shown = prompt.text.split("<candidate")[1]
        return next(score for word, score in SCORES.items() if word in shown)
    return " and an end." if prompt.messages[-1].role == "assistant" else TEXTS[index] + "?" * (index < 3)


SCORES = {
    "Bad": "0.1",
    "Good start, and": "0.3",
    "Good": "0.8",
    "Fair start, and": "0.6",
    "Fair": "0.5",
    "Short": "0.2",
}


async def test_the_worst_drafts_are_dropped_and_the_others_written_on() -> None:
    node = AdaptiveBestOfN(model="m", samples=4, batch=4, prune_after=11, max_tokens=30)
    context = Cut(drafts)
    found = await node.run(ASKED, context)
    assert context.prefixes == [None, "Good start,", "Fair start,"]
    continued = [p.sampling for p in context.history if p.messages[-1].role == "assistant" and p.kind == "sample"]
    assert [sampling.max_tokens for sampling in continued if sampling] == [19, 19]
    # Whole responses are scored anew: the one whose beginning was best is not the best.
    (best,) = found.candidates
    assert best.text == "Fair start, and an end."
    assert best.id == "node:3"
    assert best.completion_tokens == 11 + len(" and an end.")
    assert (found.measures["pruned"], found.measures["pruned_tokens"]) == (1, 11)
    assert (found.measures["best_score"], found.measures["drawn"]) == (0.6, 4)
    # Four drafts and two whole responses; the one that had ended by itself keeps its score.
    assert sum(prompt.kind == "score" for prompt in context.history) == 6


async def test_a_draft_that_cannot_be_written_on_is_noted_and_not_handed_on() -> None:
    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        is_rest = prompt.kind == "sample" and prompt.messages[-1].role == "assistant"
        return Overloaded("503") if is_rest else drafts(prompt, index)

    node = AdaptiveBestOfN(model="m", samples=4, batch=4, prune_after=11)
    found = await node.run(ASKED, Cut(reply))
    assert [candidate.text for candidate in found.candidates] == ["Short."]
    assert [note.detail.split(":")[0] for note in found.notes] == ["the rest of node", "the rest of node"]


def test_pruning_asks_for_prefix_continuation_of_the_model_that_answers_alone() -> None:
    scorer = {"use": "judge", "model": "j"}
    node = AdaptiveBestOfN.model_validate({"model": "m", "batch": 2, "prune_after": 8, "scorer": scorer})
    assert node.required() == node.required_of("m") == {"prefix_continuation"}
    assert node.required_of("j") == frozenset()
    assert AdaptiveBestOfN(model="m").required() == frozenset()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prune_after": 8}, "drops nothing of a batch of 1 with prune_keep: 0.5"),
        ({"prune_after": 8, "batch": 4, "prune_keep": 0.9}, "drops nothing of a batch of 4 with prune_keep: 0.9"),
        ({"prune_after": 8, "batch": 4, "max_tokens": 8}, r"prune_after \(8\) must be below max_tokens \(8\)"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        AdaptiveBestOfN.model_validate({"model": "m", **settings})


@given(
    st.lists(st.none() | st.floats(0, 1), min_size=12, max_size=12),
    st.integers(1, 12),
    st.integers(1, 5),
    st.floats(0, 1),
)
def test_never_more_is_drawn_than_the_cap_and_never_after_a_good_one(
    scores: list[float | None], samples: int, batch: int, threshold: float
) -> None:
    try:
        found = tried(*scores, samples=samples, batch=batch, threshold=threshold)
    except InsufficientCandidates:
        assert not any(score is not None for score in scores[:samples])
        return
    drawn = int(found.state.measures["drawn"])
    assert sum(prompt.n for prompt in found.context.history if prompt.kind == "sample") == drawn <= samples
    before = (math.ceil(drawn / batch) - 1) * batch
    assert all(score is None or score < threshold for score in scores[:before])
    assert drawn == samples or any(score is not None and score >= threshold for score in scores[before:drawn])
    assert found.state.measures["best_score"] == max(score for score in scores[:drawn] if score is not None)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_pruning_parts_the_drafts_and_drops_the_worst(drawn: list[tuple[float, bool]], keep: float) -> None:
    node = AdaptiveBestOfN(model="m", samples=40, batch=40, prune_after=8, prune_keep=keep)
    made = [
        replace(one, finish_reason="length" if cut else "stop")
        for one, (_, cut) in zip(drafted(*map(str, range(len(drawn)))), drawn, strict=True)
    ]
    whole, going_on, dropped = node.sorted_out(made, [score for score, _ in drawn])
    assert sorted(one.id for one in (*whole, *going_on, *dropped)) == sorted(one.id for one in made)
    assert len(going_on) <= node.kept_of(len(made)) == max(1, math.ceil(len(made) * keep - 1e-9))
    assert all(one.finish_reason == "stop" for one in whole)
    value = {one.id: score for one, (score, _) in zip(made, drawn, strict=True)}
    assert all(value[kept.id] >= value[lost.id] for kept in going_on for lost in dropped)


async def test_on_the_models_that_ship_bad_beginnings_are_dropped_at_the_price_that_was_foretold() -> None:
    question = "Ann has 16 plums. Ann wins 4 more. Then Ann eats 3. How many plums has Ann now?"
    scorer = {"use": "verdict_probability", "model": "embedded/judge"}
    settings = {"model": "embedded/nano", "samples": 6, "batch": 6, "prune_after": 12, "scorer": scorer}
    spec, book, scope = parse({"layers": [{"adaptive_best_of_n": settings}]}), ModelBook(env={}), Scope("r", "i")
    foretold = plan(spec, book, question).total
    async with Gateway(book, None) as gateway:
        compiled = compile_architecture(spec, book)
        outcome = await compiled.run(question, gateway=gateway, scope=scope, answer_kind="numeric")
    assert outcome.candidate.finish_reason == "stop"
    assert outcome.candidate.completion_tokens > 12
    assert "Answer" in outcome.answer
    assert outcome.state.measures["pruned"] == 3
    assert outcome.state.measures["pruned_tokens"] == 36
    assert not outcome.state.notes
    used = scope.totals()
    # Six drafts with their scores, three rests with theirs: what was dropped is paid for and counted.
    assert used.calls == 18
    assert foretold.calls.low <= used.calls <= foretold.calls.high
    assert foretold.prompt_tokens.low <= used.prompt_tokens <= foretold.prompt_tokens.high
    assert foretold.completion_tokens.low <= used.completion_tokens <= foretold.completion_tokens.high
