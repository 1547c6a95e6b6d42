"""A trace survives JSON, and says everything once."""

from __future__ import annotations

import json
from types import MappingProxyType

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import compile_architecture, outcome_from_json, trace_json
from architectures.outcome import Outcome
from architectures.parse import parse
from db.errors import DataError
from nodes.base import Candidate, Note, State
from providers.gateway import Gateway
from providers.scope import Scope

TEXT = st.text(max_size=20)
CANDIDATES = st.builds(
    Candidate,
    id=st.sampled_from(["a:1", "a:2", "b:1"]),
    text=TEXT,
    node=TEXT,
    model=st.none() | TEXT,
    index=st.integers(0, 5),
    parents=st.tuples() | st.tuples(TEXT),
    scores=st.dictionaries(TEXT, st.floats(0, 10), max_size=2).map(MappingProxyType),
    critique=st.none() | TEXT,
    verdict=st.none() | st.booleans(),
    verdict_reason=st.none() | TEXT,
    tests_passed=st.lists(st.none() | st.booleans(), max_size=3).map(tuple),
    answer=st.none() | TEXT,
    mean_logprob=st.none() | st.floats(-9, 0),
    completion_tokens=st.integers(0, 9),
    finish_reason=st.none() | TEXT,
)
STATES = st.builds(
    State,
    question=st.just("q"),
    candidates=st.lists(CANDIDATES, max_size=4).map(tuple),
    tests=st.lists(TEXT, max_size=2).map(tuple),
    measures=st.dictionaries(TEXT, st.floats(0, 1), max_size=2).map(MappingProxyType),
    notes=st.lists(st.builds(Note, TEXT, st.sampled_from(["unparsed", "fallback"]), TEXT), max_size=3).map(tuple),
)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    state = draw(STATES.filter(lambda state: bool(state.candidates)))
    trace = draw(st.dictionaries(TEXT, STATES, max_size=3))
    # Several nodes hand on the same objects, as they do in a run.
    trace["again"] = state
    seconds = {name: 0.125 for name in trace}
    return Outcome(
        candidate=state.candidates[0],
        state=state,
        trace=trace,
        skipped=("x",),
        failed=draw(st.dictionaries(TEXT, TEXT, max_size=1)),
        seconds=seconds,
    )


@settings(deadline=None, max_examples=100)
@given(outcomes())
def test_a_trace_reads_back_as_it_was(outcome: Outcome) -> None:
    data = trace_json(outcome)
    for written in (json.loads(json.dumps(data)), orjson.loads(orjson.dumps(data))):
        assert outcome_from_json(written) == outcome


async def test_a_real_trace_is_compact_and_complete(gateway: Gateway) -> None:
    spec = parse(
        [
            {"generate": {"model": "fast", "samples": 8}},
            {"critique": {"model": "judge"}},
            {"judge": {"model": "judge"}},
            {"verify": {"model": "judge"}},
            {"fuse": {"model": "strong"}},
        ]
    )
    outcome = await compile_architecture(spec).run("q", gateway=gateway, scope=Scope("r", "i"))
    data = trace_json(outcome)
    assert outcome_from_json(json.loads(json.dumps(data))).trace == outcome.trace
    texts = [row["text"] for row in data["candidates"] if "text" in row]
    assert len(texts) == 9
    assert list(data["nodes"]) == ["generate", "critique", "judge", "verify", "fuse"]


def test_a_trace_of_another_form_is_refused() -> None:
    with pytest.raises(DataError, match="A trace of form 99 cannot be read"):
        outcome_from_json({"form": 99})
