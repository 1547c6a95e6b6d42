"""The contract that every technique holds, as checks that run over the registry; other packages run them over theirs.

    @pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
    @pytest.mark.parametrize("probe", probes("my_technique"), ids=str)
    def test_contract(check, probe):
        check(probe)

`nodes.probe.probes` takes the settings from the YAML example in the technique's docstring. A technique with prompts of
its own gives replies in the formats that it reads: `probes("my_technique", replies={"my_template": "Verdict: yes"})`. A
check that fails raises an `AssertionError` that says what is wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from itertools import count

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.base import Candidate, Range, State
from nodes.probe import QUESTION, Probe, example_nodes
from nodes.registry import describe
from nodes.testing import Prompt, Script, ScriptedContext, ScriptedEstimator, byte_count, shape_of
from providers.errors import Overloaded

__all__ = ["CONTRACT"]

_GARBLED = "???"
_WORD = re.compile(r"\w+")


def _hold(condition: object, otherwise: str) -> None:
    # Not an assert statement: checks hold under `python -O` too.
    if not condition:
        raise AssertionError(otherwise)


def check_example(probe: Probe) -> None:
    """The docstring's example loads and uses the technique."""
    used = {type(technique) for technique in example_nodes(describe(probe.name))}
    _hold(type(probe.technique) in used, f"the example of {probe.name} does not use it")


def check_settings(probe: Probe) -> None:
    """The settings are frozen, survive canonical JSON, and can be hashed."""
    technique = probe.technique
    _hold(type(technique).model_validate(technique.settings()) == technique, "settings change on a round trip")
    _hold(hash(technique) == hash(technique.model_copy()), "settings of equal techniques have different hashes")
    _hold(technique.model_config.get("frozen"), "settings are not frozen")
    _hold(technique.required() >= technique.requires, "required() names less than the class requires")


def check_plan(probe: Probe) -> None:
    """Calls, requests and models made lie in the plan's range, and are exact where it knows no range."""
    _, context = probe.answered()
    plan = probe.technique.plan(shape_of(probe.state), ScriptedEstimator(_reply_range(probe)))
    planned, requests = _sum(call.calls for call in plan.calls), _sum(call.requests for call in plan.calls)
    _hold(planned.low <= context.calls <= planned.high, f"{context.calls} calls made, {planned} planned")
    _hold(requests.low <= len(context.history) <= requests.high, f"{len(context.history)} requests, {requests} planned")
    _hold({prompt.model for prompt in context.history} <= set(probe.technique.models()), "asks a model it did not name")
    _hold({call.model for call in plan.calls} <= set(probe.technique.models()), "plans for a model it did not name")
    _hold({p.template for p in context.history} <= {c.template for c in plan.calls}, "a template was not planned")


def check_planned_tokens(probe: Probe) -> None:
    """Every prompt's length lies in the range that was planned for its template."""
    _, context = probe.answered()
    plan = probe.technique.plan(shape_of(probe.state), ScriptedEstimator(_reply_range(probe)))
    for prompt in context.history:
        if prompt.kind == "embed":
            continue
        made = byte_count(prompt.messages)
        planned = [c.prompt_tokens for c in plan.calls if (c.template, c.model) == (prompt.template, prompt.model)]
        # A stripped text may fall short of the text by its outer white space, a quoted one pass it by a space a line.
        held = any(p.low * 0.98 <= made <= p.high * 1.02 for p in planned)
        _hold(held, f"{prompt.template}: {made} not in {planned}")


def check_planned_shape(probe: Probe) -> None:
    """What is handed on has as many candidates and tests, as long as was planned."""
    result, _ = probe.answered()
    shape = probe.technique.plan(shape_of(probe.state), ScriptedEstimator(_reply_range(probe))).shape
    pairs = [(shape.candidates, len(result.candidates)), (shape.tests, len(result.tests))]
    pairs += [(shape.candidate_tokens, len(candidate.text.encode())) for candidate in result.candidates]
    pairs += [(shape.critique_tokens, len((c.critique or "").encode())) for c in result.candidates]
    for planned, found in pairs:
        _hold(planned.low <= found <= planned.high, f"{found} is not in the planned {planned}")


def check_results(probe: Probe) -> None:
    """The result holds what the technique says it gives and measures; ids are unique; nothing dropped is left."""
    result, context = probe.answered()
    technique = probe.technique
    ids = [candidate.id for candidate in result.candidates]
    _hold(len(set(ids)) == len(ids), f"ids repeat: {ids}")
    held = {
        "candidates": bool(result.candidates),
        "critiques": any(c.critique for c in result.candidates),
        "scores": all(context.node in c.scores for c in result.candidates),
        "tests": bool(result.tests),
        "verdicts": any(c.verdict is not None for c in result.candidates),
    }
    missing = [need for need in technique.gives if not held[need]]
    _hold(not missing, f"does not give {missing}")
    held["scores"] = any(c.scores for c in result.candidates)
    left = [need for need in technique.drops - technique.gives if held[need]]
    _hold(not left, f"should have dropped {left}")
    taken = set(result.measures) - set(probe.state.measures)
    _hold(taken == set(technique.measures), f"measures {sorted(taken)}, declares {sorted(technique.measures)}")


def check_nothing_mutated(probe: Probe) -> None:
    """The state that came in is as it was, and its notes and measures are still there in the result."""
    state = probe.state.measured(before=1.0)
    before = repr(state)
    result = probe.run(ScriptedContext(probe.script), state)
    _hold(repr(state) == before, "the state was changed")
    _hold(result.question == state.question, "the question was changed")
    _hold(result.measures.get("before") == 1.0, "earlier measures were lost")
    _hold(result.notes[: len(state.notes)] == state.notes, "earlier notes were lost")


def check_same_replies_same_result(probe: Probe) -> None:
    """The same samples are drawn and the result is the same, in whatever order replies arrive; a race may differ."""
    if probe.technique.races:
        return
    duplicated = probe.state.candidates + tuple(
        Candidate(id=f"again:{n}", text=c.text, node="again", model=c.model)
        for n, c in enumerate(probe.state.candidates)
    )
    state = State(question=probe.state.question, candidates=duplicated, tests=probe.state.tests)
    seen = set()
    for seed in range(6):
        context = ScriptedContext(probe.script, arrival=random.Random(seed))
        seen.add(repr(probe.run(context, state)))
    _hold(len(seen) == 1, "the result depends on the order in which replies arrive")


def check_survivors(probe: Probe) -> None:
    """With any one call failed the node goes on with the others or says that nothing is left, and notes the failure."""
    _, context = probe.answered()
    vital = [prompt.template in probe.technique.vital for prompt in context.history for _ in range(prompt.n)]
    for failing in range(context.calls):
        try:
            result = probe.run(ScriptedContext(_failing_at(failing, probe.script)))
        except InsufficientCandidates as error:
            excused = context.calls == 1 or not probe.state.candidates or any(vital[: failing + 1])
            _hold(excused, f"gave up after one of many calls failed: {error}")
            continue
        _hold(any(note.kind == "call_failed" and "overloaded" in note.detail for note in result.notes), "no note of it")
        _hold(result.candidates, "handed on nothing")


def check_all_calls_failed(probe: Probe) -> None:
    """With every call failed only what came in is handed on, or `InsufficientCandidates` names node and last error."""
    context = ScriptedContext(lambda prompt, index: Overloaded(f"503 number {index}"), node="the_node")
    try:
        result = probe.run(context)
    except InsufficientCandidates as error:
        _hold("'the_node'" in str(error), f"does not name the node: {error}")
        _hold("overloaded: 503 number" in str(error), f"does not name the last error: {error}")
        return
    _hold(not _invented(probe, result, {candidate.text for candidate in probe.state.candidates}), "made up a candidate")
    failed = sum(note.kind == "call_failed" for note in result.notes)
    _hold(failed == context.calls, f"{context.calls} calls failed, {failed} are noted")


def check_nothing_invented(probe: Probe) -> None:
    """Every text handed on is a candidate that came in or a reply."""
    replies: set[str] = set()

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        reply = probe.script(prompt, index)
        replies.add(str(reply))
        return reply

    result = probe.run(ScriptedContext(script))
    known = replies | {candidate.text for candidate in probe.state.candidates}
    _hold(not _invented(probe, result, known), "made up a candidate")


def check_garbled_replies(probe: Probe) -> None:
    """A reply that cannot be read is no pass; it is noted, unless it was handed on as the candidate that it is."""
    context = ScriptedContext(lambda prompt, index: _GARBLED)
    try:
        result = probe.run(context)
    except InsufficientCandidates:
        return
    if "verdicts" in probe.technique.gives:
        _hold(not any(candidate.verdict for candidate in result.candidates), "the unreadable passed")
    noted = any(note.kind in ("unparsed", "call_failed") for note in result.notes)
    handed_on = any(candidate.text == _GARBLED for candidate in result.candidates)
    _hold(noted or handed_on or not context.calls, "an unreadable reply is not noted")


def check_no_candidates(probe: Probe) -> None:
    """A technique that needs candidates says by name that it has none."""
    if "candidates" not in probe.technique.needs:
        return
    try:
        probe.run(ScriptedContext(probe.script, node="the_node"), State(question=QUESTION))
    except InsufficientCandidates as error:
        _hold("'the_node'" in str(error), f"does not name the node: {error}")
        return
    raise AssertionError("handed something on though nothing came in")


def _invented(probe: Probe, result: State, known: set[str]) -> set[str]:
    """Return the texts handed on that are not known, nor put together of known words by one who says that it does."""
    texts = {candidate.text for candidate in result.candidates} - known
    if not probe.technique.composes:
        return texts
    words = {word for text in known for word in _WORD.findall(text)} | probe.technique.own_words()
    return {text for text in texts if not words.issuperset(_WORD.findall(text))}


def _failing_at(failing: int, script: Script) -> Script:
    numbers = count()
    return lambda prompt, index: (
        Overloaded("503 from the server") if next(numbers) == failing else script(prompt, index)
    )


def _reply_range(probe: Probe) -> Range:
    lengths: list[int] = []

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        reply = probe.script(prompt, index)
        lengths.append(len(str(reply).encode()))
        return reply

    probe.run(ScriptedContext(script))
    return Range(min(lengths), sum(lengths) / len(lengths), max(lengths)) if lengths else Range(1, 1, 1)


def _sum(ranges: Iterable[Range]) -> Range:
    total = Range(0, 0, 0)
    for addend in ranges:
        total = total.plus(addend)
    return total


CONTRACT: tuple[Callable[[Probe], None], ...] = (
    check_all_calls_failed,
    check_example,
    check_garbled_replies,
    check_no_candidates,
    check_nothing_invented,
    check_nothing_mutated,
    check_plan,
    check_planned_shape,
    check_planned_tokens,
    check_results,
    check_same_replies_same_result,
    check_settings,
    check_survivors,
)
