from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from nodes.base import Candidate, State
from nodes.consistent_choice import Choice, Option, choose
from nodes.constraint_merge import ConstraintMerge
from nodes.constraints import Constraint, violated
from nodes.testing import drafted, try_out

ADAPTER: TypeAdapter[tuple[Constraint, ...]] = TypeAdapter(tuple[Constraint, ...])
NAMES = "abcd"
KINDS: tuple[dict[str, object], ...] = (
    {"sum": ["a", "b"], "equals": "c"},
    {"less": ["a", "b", "c"]},
    {"at_most": ["d", 2]},
    {"different": ["a", "d"]},
    {"same": ["b", "d"]},
    {"requires": [["a", 1], ["d", 2]]},
    {"requires": ["c", "absent"]},
    {"one_of": ["b", [1, 3]]},
)
constraint_lists = st.lists(st.sampled_from(KINDS), max_size=5, unique_by=str)
outputs = st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), min_size=1), min_size=1, max_size=5)
weights = st.lists(st.lists(st.floats(0, 3), min_size=1, max_size=3), min_size=1, max_size=4)


def written(*fields: dict[str, int]) -> State:
    return State(question="Q", candidates=drafted(*(json.dumps(one) for one in fields)))


def every_choice(options: dict[str, list[Option]], constraints: Sequence[Constraint], abstain: bool) -> list[Choice]:
    places = [[*range(len(options[name])), *([None] if abstain else [])] for name in options]
    found = []
    for chosen in product(*places):
        picks = dict(zip(options, chosen, strict=True))
        values = {name: options[name][place].value for name, place in picks.items() if place is not None}
        weight = sum(options[name][place].weight for name, place in picks.items() if place is not None)
        found.append(Choice(picks, weight, violated(constraints, values), True))
    return found


@settings(max_examples=150)
@given(weights, constraint_lists, st.integers(0, 2), st.booleans())
def test_the_exact_search_finds_the_best_and_the_heuristic_none_better(
    given_weights: list[list[float]], kinds: list[dict[str, object]], allowed: int, abstain: bool
) -> None:
    constraints = ADAPTER.validate_python(kinds)
    options = {
        name: [Option(value, weight) for value, weight in enumerate(sorted(of_field, reverse=True))]
        for name, of_field in zip(NAMES, given_weights, strict=False)
    }
    exact = choose(options, constraints, allowed=allowed, abstain=abstain)
    climbed = choose(options, constraints, allowed=allowed, abstain=abstain, exact_up_to=0)
    every = every_choice(options, constraints, abstain)
    feasible = [one.weight for one in every if one.violated <= allowed]
    assert exact.exact
    if feasible:
        assert exact.violated <= allowed
        assert exact.weight == pytest.approx(max(feasible), abs=1e-6)
    else:
        assert not abstain
        assert exact.violated == min(one.violated for one in every)
    if abstain:
        assert climbed.violated <= allowed
    if climbed.violated <= allowed:
        assert climbed.weight <= exact.weight + 1e-6


@settings(max_examples=80)
@given(outputs, constraint_lists, st.sampled_from([0.0, 0.34, 1.0]), st.sampled_from([0, 20_000]))
def test_no_more_is_violated_than_may_be_and_no_consistent_candidate_is_better(
    fields: list[dict[str, int]], kinds: list[dict[str, object]], share: float, exact_up_to: int
) -> None:
    merge = ConstraintMerge.model_validate({"constraints": kinds, "inconsistency": share, "exact_up_to": exact_up_to})
    tried = try_out(merge, written(*fields))
    result = json.loads(tried.texts[0])
    allowed = int(share * len(kinds) + 1e-9)
    if not any("no value can stand" in detail for _, detail in tried.notes):
        assert violated(merge.constraints, result) <= allowed
    assert tried.state.measures["inconsistency"] == violated(merge.constraints, result) / max(1, len(kinds))
    total = sum(map(len, fields))

    def kept(values: dict[str, int]) -> float:
        return sum(one[name] == value for one in fields for name, value in values.items() if name in one) / total

    assert tried.state.measures["coverage"] == pytest.approx(kept(result))
    for one in fields:
        if violated(merge.constraints, one) <= allowed:
            assert kept(one) <= kept(result) + 1e-9


@settings(max_examples=60)
@given(outputs, constraint_lists, st.randoms(use_true_random=False), st.sampled_from([0, 20_000]))
def test_the_order_of_the_candidates_plays_no_part(
    fields: list[dict[str, int]], kinds: list[dict[str, object]], source: random.Random, exact_up_to: int
) -> None:
    merge = ConstraintMerge.model_validate({"constraints": kinds, "exact_up_to": exact_up_to})
    state = written(*fields)
    shuffled = list(state.candidates)
    source.shuffle(shuffled)
    one, other = try_out(merge, state), try_out(merge, replace(state, candidates=tuple(shuffled)))
    assert one.texts == other.texts
    assert one.state.measures == other.state.measures
    assert set(one.state.candidates[0].parents) == set(other.state.candidates[0].parents)


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), min_size=1), constraint_lists, st.integers(1, 4))
def test_what_all_say_is_returned_if_it_is_consistent(
    fields: dict[str, int], kinds: list[dict[str, object]], count: int
) -> None:
    constraints = ADAPTER.validate_python(
        [kind for kind in kinds if not violated(ADAPTER.validate_python([kind]), fields)]
    )
    tried = try_out(ConstraintMerge(constraints=constraints), written(*[fields] * count))
    assert json.loads(tried.texts[0]) == fields
    assert tried.state.measures == {"coverage": 1.0, "fields": len(fields), "inconsistency": 0.0}
    assert tried.state.notes == ()


INVOICES = State(
    question="Q",
    candidates=drafted(
        'Here: {"net": 100, "tax": 19, "total": 119}',
        '{"net": 100, "tax": 9, "total": 119, "currency": "EUR"}',
        "Net: 90\nTax: 9\nTotal: 119\nCurrency: EUR",
    ),
)
ADDS_UP = {"sum": ["net", "tax"], "equals": "total"}


def test_a_vote_on_each_field_would_contradict_itself_and_the_merge_does_not() -> None:
    voted = try_out("constraint_merge", INVOICES)
    assert json.loads(voted.texts[0]) == {"net": 100, "tax": 9, "total": 119, "Currency": "EUR"}
    merged = try_out("constraint_merge", INVOICES, constraints=[ADDS_UP])
    assert json.loads(merged.texts[0]) == {"net": 100, "tax": 19, "total": 119, "Currency": "EUR"}
    assert merged.state.measures == {"coverage": 8 / 11, "fields": 4, "inconsistency": 0.0}
    assert merged.state.candidates[0].parents == ("draft:1", "draft:2", "draft:3")
    assert merged.context.calls == 0


def test_models_that_err_more_weigh_less() -> None:
    state = replace(
        INVOICES,
        candidates=tuple(
            replace(one, model=model) for one, model in zip(INVOICES.candidates, ("good", "bad", "bad"), strict=True)
        ),
    )
    bad: dict[str, object] = {"model": "bad", "rate": 0.9}
    assert json.loads(try_out("constraint_merge", state, errors=[bad]).texts[0])["tax"] == 19
    in_tax = {"model": "bad", "field": "Tax", "rate": 0.6}
    only_there = try_out("constraint_merge", state, errors=[in_tax])
    assert json.loads(only_there.texts[0])["tax"] == 19
    assert only_there.state.measures["coverage"] == pytest.approx((2 + 1 + 3 + 2) / (3 + 3 + 2 + 1 + 0.8))
    better = {"model": "bad", "field": "tax", "rate": 0.0}
    assert json.loads(try_out("constraint_merge", state, errors=[bad, better]).texts[0])["tax"] == 9


def test_a_field_that_cannot_stand_is_left_out_or_kept_for_completeness() -> None:
    lone = written({"a": 3, "b": 1})
    settings: dict[str, object] = {"constraints": [{"one_of": ["b", [2]]}]}
    assert json.loads(try_out(ConstraintMerge.model_validate(settings), lone).texts[0]) == {"a": 3}
    whole = try_out(ConstraintMerge.model_validate({**settings, "complete": True}), lone)
    assert json.loads(whole.texts[0]) == {"a": 3, "b": 1}
    assert whole.notes == [("fallback", "1 of 1 constraints are violated, 0 may be")]
    assert whole.state.measures["inconsistency"] == 1.0
    none = try_out("constraint_merge", written({"b": 1}), constraints=[{"one_of": ["b", [2]]}])
    assert json.loads(none.texts[0]) == {"b": 1}
    assert [detail for _, detail in none.notes] == [
        "no value can stand; all fields are kept with the fewest violations"
    ]


def test_fields_may_be_named_and_come_in_that_order() -> None:
    tried = try_out("constraint_merge", INVOICES, fields=["Currency", "net", "vat id"])
    assert tried.texts == ['{"Currency": "EUR", "net": 100}']


def test_candidates_without_fields_are_left_out_and_noted() -> None:
    mixed = replace(INVOICES, candidates=(*INVOICES.candidates, *[replace(drafted("No idea.")[0], id="draft:9")]))
    tried = try_out("constraint_merge", mixed)
    assert tried.notes == [("unparsed", "no fields in draft:9")]
    scored = tuple(
        Candidate(id=f"x:{n}", text=f"text {n}", node="x", model=None, critique="c").scored("x", n) for n in range(3)
    )
    tried = try_out("constraint_merge", State(question="Q", candidates=scored))
    assert tried.texts == ["text 2"]
    assert [kind for kind, _ in tried.notes] == ["unparsed", "fallback"]
    assert tried.state.candidates[0].critique is None


def test_a_large_merge_climbs_says_so_and_keeps_the_constraints() -> None:
    wide = [{f"f{n}": (n * k) % 7 for n in range(40)} for k in range(1, 6)]
    chain = [{"less": [f"f{n}", f"f{n + 1}"]} for n in range(0, 40, 2)]
    tried = try_out("constraint_merge", written(*wide), constraints=chain)
    assert ("fallback", "too many combinations for an exact search; hill climbing chose") in tried.notes
    assert tried.state.measures["inconsistency"] == 0.0
    assert tried.state.measures["fields"] >= 20


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="the error rate of 'm' is given more than once"):
        ConstraintMerge.model_validate({"errors": [{"model": "m", "rate": 0.1}, {"model": "m", "rate": 0.2}]})
    with pytest.raises(ValidationError, match="a constraint is a mapping with one of"):
        ConstraintMerge.model_validate({"constraints": ["a < b"]})
