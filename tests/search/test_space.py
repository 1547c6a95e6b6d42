"""Spaces: the grammar, the ready ones, what caps leave out, and what is said about mistakes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures.planner import Speed
from db.errors import SpecError
from providers.book import ModelBook
from search import (
    Cap,
    Space,
    load_space,
    make_sampler,
    plan_space,
    rank_models,
    ranking,
    read_space,
    space_data,
    space_names,
)
from search.caps import exceeded
from search.domain import INACTIVE
from search.space import describe
from tests.architectures.support import book_at

MODELS = ("fast", "strong")
OPEN: dict[str, Any] = {
    "models": {"generators": [*MODELS], "judges": ["judge"]},
    "parameters": {
        "models": {"subset": "generators"},
        "samples": {"range": [1, 3]},
        "temperature": {"choices": [0.4, 0.8], "when": {"samples": {"above": 1}}},
    },
    "layers": [
        {"generate": {"model": "$models", "samples": "$samples", "temperature": "$temperature"}},
        {
            "choose": "finish",
            "from": {
                "first": None,
                "vote": "vote",
                "fused": [
                    {"optional": "critic", "layers": [{"critique": {"model": "judge"}}]},
                    {"fuse": {"model": "judge"}},
                ],
            },
        },
    ],
    "singles": {"generators": [{"generate": {"model": "$model"}}]},
}


def space(**changes: object) -> dict[str, object]:
    return {"name": "open", **OPEN, **changes}


def test_counts_and_conditions() -> None:
    made = read_space(space())
    # 3 subsets x (1 + 2·2 samples and temperatures) x (first, vote, fused with and without critic).
    assert made.count() == (3 * 3 * 2 * 3 * 2, 3 * 5 * 4)
    for drawn in made.points():
        assert ("temperature" in drawn.values) == (drawn.values["samples"] != 1)
        assert ("critic" in drawn.values) == (drawn.values["finish"] == "fused")
        assert drawn.spec.id == made.architecture(drawn.values).id


def test_domain_of_a_space() -> None:
    planned = plan_space(read_space(space()), book_at(), 50)
    domain = planned.domain
    assert planned.unit == "dollars"
    assert domain.axes == ("models", "samples", "temperature", "finish", "critic")
    assert (domain.levels == INACTIVE).any()
    assert domain.features.min() >= 0
    assert domain.features.max() <= 1
    assert [planned.points[i].spec.models() for i in domain.singles["generators"]] == [("fast",), ("strong",)]
    assert domain.members["generators"].shape == (len(domain), 2)
    assert domain.keys[3] == planned.points[3].spec.id
    state, trials = make_sampler("itas", domain).ask_batch(make_sampler("itas", domain).start(0), 5)
    assert len(trials) == 5
    assert state.domain == plan_space(read_space(space()), book_at(), 50).domain.digest


def test_repeats_beside_and_when() -> None:
    made = read_space(
        {
            "models": {"fusers": [*MODELS], "generators": ["fast"]},
            "parameters": {"n": {"choices": [1, 2]}},
            "layers": [
                [
                    {"generate": {"model": "fast", "samples": "$n"}},
                    {"optional": "second", "layers": [{"generate": {"model": "strong"}}]},
                ],
                {
                    "repeat": "rounds",
                    "times": [0, 1, 2],
                    "each": {"width": {"best": "fusers", "counts": [1, 2]}},
                    "layers": [{"fuse": {"model": "$width"}}],
                },
                {"when": {"rounds": {"above": 0}}, "layers": [{"fuse": {"model": "judge"}}]},
            ],
        }
    )
    found = {tuple(node.use for node in d.spec.ordered if node.kind == "technique") for d in made.points()}
    assert ("generate",) in found
    assert ("generate", "generate", "fuse", "fuse", "fuse") in found
    assert made.count() == (2 * 2 * 3 * 2 * 2, 2 * 2 * (1 + 2 + 4))


def test_a_repeated_parameter_that_is_absent_is_what_it_is_otherwise() -> None:
    each = {"keep": {"choices": [1, 2], "when": {"deep": True}, "otherwise": 3}}
    made = read_space(
        {
            "parameters": {"deep": {"choices": [True, False]}},
            "layers": [
                {"generate": {"model": "fast", "samples": 4}},
                {"repeat": "n", "times": [1], "each": each, "layers": [{"rank": {"model": "fast", "keep": "$keep"}}]},
            ],
        }
    )
    kept = [drawn.spec.data()["nodes"] for drawn in made.points()]
    assert [nodes["rank"]["keep"] for nodes in kept if isinstance(nodes, dict)] == [1, 2, 3]


def test_values_are_written_in_one_line() -> None:
    assert describe({"system": "Be brief.\nBe right.\n", "samples": 2}) == "system=Be brief. Be right., samples=2"


def test_nodes_form_and_equal_ids_are_one_point() -> None:
    made = read_space(
        {
            "parameters": {"k": {"choices": [1, 2]}, "unused": {"choices": [1, 2, 3]}},
            "nodes": {"a": {"use": "generate", "model": "fast", "samples": "$k"}, "b": {"use": "vote", "after": "a"}},
            "output": "b",
        }
    )
    assert made.count() == (6, 2)


def test_rules_bound_products_and_sums() -> None:
    parameters = {"a": {"choices": [1, 2, 3]}, "b": {"choices": [1, 2, 3]}}
    layers = [{"generate": {"model": "fast", "samples": "$a", "max_tokens": "$b"}}]
    product = read_space({"parameters": parameters, "layers": layers, "rules": [{"product": ["a", "b"], "at_most": 3}]})
    assert product.count().valid == 5
    total = read_space({"parameters": parameters, "layers": layers, "rules": [{"sum": ["a", "b"], "at_least": 5}]})
    assert total.count().valid == 3
    forbid = read_space({"parameters": parameters, "layers": layers, "rules": [{"forbid": {"a": [1, 2], "b": 3}}]})
    assert forbid.count().valid == 7


class TestReady:
    def test_names(self) -> None:
        assert space_names() == ("archon", "instructed", "literature", "selection", "small")

    def test_archon_counts_follow_from_its_rules(self) -> None:
        made = load_space("archon")
        assert made.raw == 18_750
        found = list(made.assignments())
        assert len(found) == 9_690
        single = [v for v in found if v["fusers_1"] == ()]
        assert len(found) - len(single) == 9_576

    @pytest.mark.parametrize(
        ("name", "raw", "valid"), [("literature", 32_256, 852), ("selection", 252, 167), ("small", 576, 438)]
    )
    def test_embedded_spaces(self, name: str, raw: int, valid: int) -> None:
        assert load_space(name).count() == (raw, valid)
        planned = plan_space(load_space(name), ModelBook({}, env={}), 40)
        assert planned.unit == "dollars"
        assert len(planned.domain) == valid
        assert len(planned.domain.singles["generators"]) == 2

    def test_models_of_the_user(self) -> None:
        made = load_space("small", models={"generators": ["fast"], "judges": ["judge"]})
        assert {m for d in made.points(book_at()) for m in d.spec.models()} == {"fast", "judge"}

    @pytest.mark.parametrize("name", space_names())
    def test_data_of_a_space_goes_through_json(self, name: str) -> None:
        carried = json.loads(json.dumps(space_data(name)))
        assert carried == space_data(name)
        assert read_space(carried) == load_space(name)

    def test_data_of_the_users_file(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("layers: [{choose: n, from: {1: {generate: {model: a}}, 2: {generate: {model: b}}}}]\n")
        carried = json.loads(json.dumps(space_data(file)))
        assert carried["name"] == "mine"
        assert read_space(carried) == load_space(file)
        assert {drawn.spec.models() for drawn in load_space(file).points()} == {("a",), ("b",)}
        file.write_text("- layers\n")
        with pytest.raises(SpecError, match=r"mine\.yaml: a space is a mapping with 'layers'"):
            space_data(file)
        file.write_text("layers: [generate: {model: a, style: 2026-11-21}]\n")
        with pytest.raises(SpecError, match=r"mine\.yaml: layers\.1\.generate\.style: 2026-11-21 is no plain value"):
            space_data(file)
        with pytest.raises(SpecError, match="there is no such file"):
            space_data(tmp_path / "none.yaml")

    def test_file_of_the_user(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("layers: [generate: {model: fast}]\n", encoding="utf-8")
        made = load_space(file)
        assert (made.name, made.count()) == ("mine", (1, 1))
        planned = plan_space(made, book_at(), 10)
        assert planned.domain.axes == ()
        assert make_sampler("random", planned.domain).start(0).trials == ()


class TestRanking:
    """Models measured one by one in a role decide who is among the best k."""

    def archon(self) -> Space:
        models = ["fast", "strong", "judge"]
        data = space_data("archon")
        counts = {name: {"best": "fusers", "counts": [0, 2]} for name in ("fusers_1", "fusers_2", "fusers_3")}
        parameters = {**_mapping(data["parameters"]), **counts, "generators": {"best": "generators"}}
        roles = {"generators": models, "fusers": models, "judges": ["judge"]}
        return read_space({**data, "parameters": parameters, "models": roles})

    def test_what_is_measured(self) -> None:
        found = ranking(self.archon(), book_at())
        assert {role: tuple(by_model) for role, by_model in found.items()} == {
            "generators": ("fast", "strong", "judge"),
            "fusers": ("fast", "strong", "judge"),
        }
        fuser = found["fusers"]["strong"].ordered
        assert [node.use for node in fuser if node.kind == "technique"] == ["generate", "fuse"]
        assert [node.settings.models() for node in fuser if node.kind == "technique"] == [
            ("fast", "strong", "judge"),
            ("strong",),
        ]
        assert ranking(read_space(space()), book_at()) == {}
        assert [*ranking(load_space("archon"))] == ["generators", "fusers"]

    def test_the_order_of_a_role_is_what_was_measured(self) -> None:
        made = self.archon()
        ranked = rank_models(made, "fusers", {"fast": 0.2, "strong": 0.7, "judge": 0.7})
        assert ranked.models["fusers"] == ("strong", "judge", "fast")
        assert ranked.models["generators"] == made.models["generators"]
        last = {values["last"] for values in ranked.assignments()}
        assert last == {("strong",)}
        assert {values["fusers_1"] for values in ranked.assignments()} == {(), ("strong", "judge")}
        assert {values["generators"] for values in ranked.assignments()} == {
            values["generators"] for values in made.assignments()
        }
        assert ranked.raw == made.raw
        again = read_space(
            {**space_data("archon")}, models={"fusers": [*reversed(load_space("archon").models["fusers"])]}
        )
        places = {model: float(place) for place, model in enumerate(load_space("archon").models["fusers"])}
        assert rank_models(load_space("archon"), "fusers", places) == again

    def test_subsets_are_what_they_were(self) -> None:
        made = load_space("small")
        ranked = rank_models(made, "generators", {"embedded/nano": 0.1, "embedded/mini": 0.9})
        assert ranked.parameters == made.parameters
        assert ranked.models["generators"] == ("embedded/mini", "embedded/nano")

    def test_refuses_values_of_other_models(self) -> None:
        for role, values in (("fuser", {}), ("fusers", {"fast": 1.0})):
            with pytest.raises(ValueError, match="a value for each model of a role"):
                rank_models(self.archon(), role, values)


def _mapping(data: object) -> dict[str, object]:
    assert isinstance(data, dict)
    return data


class TestCaps:
    @settings(max_examples=12)
    @given(
        st.sampled_from(["calls", "completion_tokens", "depth", "dollars", "prompt_tokens", "tokens"]),
        st.sampled_from(["high", "likely"]),
        st.integers(0, 100),
        st.sampled_from(["random", "greedy", "nsga2"]),
    )
    def test_nothing_above_a_cap_is_ever_proposed(self, name: str, by: str, share: int, sampler_name: str) -> None:
        made, book = read_space(space()), book_at()
        free = plan_space(made, book, 50)
        probe = Cap(name, Decimal(0), by)  # type: ignore[arg-type]  # drawn from the literal's values
        known = sorted(figure for point in free.points if (figure := point.figures.of(probe)) is not None)
        cap = probe._replace(most=known[len(known) * share // 101])
        planned = plan_space(made, book, 50, caps=[cap])
        sampler = make_sampler(sampler_name, planned.domain)
        state, rng = sampler.start(share), np.random.default_rng(share)
        while True:
            state, trials = sampler.ask_batch(state, 7)
            if not trials:
                break
            for trial in trials:
                figure = planned.points[trial.point].figures.of(cap)
                assert figure is not None
                assert figure <= cap.most
                state = sampler.tell(state, trial.id, float(rng.random()))
        assert len(state.trials) == sum(figure <= cap.most for figure in known)

    def test_a_cap_that_nothing_meets_names_the_cheapest(self) -> None:
        made = read_space(space(parameters={**OPEN["parameters"], "samples": {"choices": [3]}}))
        says = r"no point meets the cap of 2 calls: the cheapest \(models=fast, .*finish=first\) needs 3 calls\.$"
        with pytest.raises(SpecError, match=says):
            plan_space(made, book_at(), 50, caps=[Cap("calls", Decimal(2))])

    def test_caps_that_only_together_leave_nothing(self) -> None:
        made = read_space(
            {
                "parameters": {"which": {"choices": ["many", "long"]}},
                "layers": [
                    {
                        "choose": "kind",
                        "from": {
                            "many": {"generate": {"model": "fast", "samples": 9}},
                            "long": [{"generate": {"model": "fast"}}, *[{"refine": {"model": "fast"}}] * 3],
                        },
                    }
                ],
                "caps": {"calls": 8, "depth": 2},
            }
        )
        with pytest.raises(SpecError, match=r"all caps together; that with the fewest calls .* needs 4 calls, 4 nodes"):
            plan_space(made, book_at(), 50)

    def test_a_figure_that_nobody_knows(self) -> None:
        caps = [Cap("seconds", Decimal(9))]
        with pytest.raises(SpecError, match=r"cap of 9 seconds cannot be held, .* ask its models a few questions"):
            plan_space(read_space(space()), book_at(), 50, caps=caps)
        speeds = dict.fromkeys((*MODELS, "judge"), Speed(0.1, 500.0))
        planned = plan_space(read_space(space()), book_at(), 50, caps=caps, speeds=speeds)
        assert all(exceeded(point.figures, tuple(caps)) is None for point in planned.points)
        unpriced = plan_space(
            read_space(space()), book_at("http://127.0.0.1:9/v1", "fast", "strong", "judge", price=None)
        )
        assert unpriced.unit == "calls"


PARAMETERS = {"n": {"choices": [1, 2]}}
LAYERS = [{"generate": {"model": "fast", "samples": "$n"}}]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layer": []}, "no key 'layer'. Did you mean 'layers'"),
        ({"nodes": {}}, "either 'layers' or 'nodes'"),
        ({"rules": [{"product": ["m"], "at_most": 2}]}, "no parameter 'm'"),
        ({"rules": [{"forbid": {"n": {"at_least": 0}}}]}, "the space is empty: its rules leave no point"),
        ({"rules": [{"sum": ["nn"], "at_most": 2}]}, "no parameter 'nn'. Did you mean 'n'"),
        ({"rules": [{"forbid": {"m": 1}}]}, "rules.1: there is no parameter 'm'"),
        ({"layers": [*LAYERS, {"when": {"m": 1}, "layers": ["vote"]}]}, "layers.2.when: there is no parameter 'm'"),
        ({"layers": [*LAYERS, {"optional": "o", "when": {"m": 1}, "layers": ["vote"]}]}, "no parameter 'm'"),
        ({"layers": []}, "is no architecture .* at least one layer"),
        ({"rules": [{"product": ["n"]}]}, "a bound is written"),
        ({"rules": [{"product": ["n"], "sum": ["n"]}]}, "one of 'product' and 'sum'"),
        ({"rules": [{"limit": 3}]}, "no key 'limit'"),
        ({"rules": {}}, "rules are a list"),
        ({"caps": {"call": 3}}, "no cap 'call'. Did you mean 'calls'"),
        ({"caps": {"calls": "many"}}, "a cap is a number from 0 up, not 'many'"),
        ({"caps": {"calls": {"at_most": 3, "by": "low"}}}, "by: likely"),
        ({"caps": []}, "caps are a mapping"),
        ({"models": {"a": []}}, "a list of models"),
        ({"models": {"a": ["x", "x"]}}, "twice"),
        ({"models": []}, "this is a mapping"),
        ({"singles": {"nobody": []}}, "no role 'nobody'"),
        ({"parameters": {"n": 3}}, "a parameter is a mapping"),
        ({"parameters": {"n": {"choice": [1]}}}, "no key 'choice'. Did you mean 'choices'"),
        ({"parameters": {"n": {}}}, "here are 0"),
        ({"parameters": {"n": {"choices": []}}}, "one entry at least"),
        ({"parameters": {"n": {"choices": [1, 1]}}}, "twice"),
        ({"parameters": {"n": {"choices": [{}]}}}, "a value is a number"),
        ({"parameters": {"n": {"range": [3, 1]}}}, "a range is"),
        ({"parameters": {"n": {"range": [1, 10**6]}}}, "more than 10,000 values"),
        ({"parameters": {"n": {"subset": "all"}}}, "no role 'all'"),
        ({"parameters": {"n": {"choices": [1], "when": {"m": 1}}}}, "no parameter 'm'"),
        ({"parameters": {"n": {"choices": [1], "when": {"n": 1}}}}, "go in a circle"),
        ({"parameters": {"n": {"choices": [1], "when": {"n": {"over": 1}}}}}, "no comparison 'over'"),
        ({"parameters": {"n": {"choices": [1], "when": {"n": {"above": "x"}}}}}, "this is a number, not 'x'"),
        ({"parameters": {"n": {"choices": [1], "when": {}}}}, "a condition is a mapping"),
        ({"parameters": {"n": {"choices": [1, 2], "step": 1}}}, "parameters.n.step: this belongs to 'range'"),
        ({"rules": [{"forbid": {"n": 1}, "at_most": 2}]}, "a rule that forbids has no bound"),
        ({"rules": [{"forbid": {"n": 3}}]}, "rules.1.forbid.n: there is no value '3'"),
        (
            {
                "parameters": {**PARAMETERS, "m": {"choices": ["long", "short"]}},
                "rules": [{"forbid": {"m": ["short", "lnog"]}}],
            },
            "rules.1.forbid.m: there is no value 'lnog'. Did you mean 'long'",
        ),
        (
            {
                "parameters": {
                    "n": {"choices": [1, 2], "when": {"m": {"above": 1}}},
                    "m": {"choices": ["long", "short"]},
                }
            },
            "n.when.m: a comparison needs numbers",
        ),
        ({"models": {"a": ["x", ""]}}, "each with a name"),
        ({"layers": "generate"}, "this is a list of layers"),
        ({"layers": [{"generate": {"model": "fast", "samples": "$m"}}]}, "no parameter 'm'"),
        ({"layers": [{"generate": {"model": "fast", "samples": -1}}]}, "is no architecture .* add a rule"),
        ({"layers": [{"choose": "x"}]}, "'choose' needs 'from'"),
        ({"layers": [{"choose": 3, "from": {"a": None}}]}, "the name of the choice"),
        ({"layers": [{"optional": "x", "layer": []}]}, "no key 'layer'"),
        ({"layers": [{"repeat": "x", "times": 3, "layers": []}]}, "'repeat' needs 'times'"),
        ({"layers": [{"repeat": "x", "times": [1], "each": [], "layers": []}]}, "a mapping of parameters"),
        ({"layers": [{"repeat": "x", "times": [1], "layers": [{"optional": "y", "layers": []}]}]}, "under 'each'"),
        ({"layers": [{"optional": "n", "layers": LAYERS}]}, "two different choices"),
    ],
)
def test_one_sentence_for_each_mistake(changes: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        read_space({"name": "bad", "parameters": PARAMETERS, "layers": LAYERS, **changes}).count()
    assert "\n" not in str(caught.value)


def test_mistakes_with_roles_and_names() -> None:
    with pytest.raises(SpecError, match=r"There is no space 'smal'.*Did you mean 'small'"):
        load_space("smal")
    with pytest.raises(SpecError, match=r"no role 'generator'\. Did you mean 'generators'"):
        load_space("small", models={"generator": ["fast"]})
    with pytest.raises(SpecError, match="a space is a mapping"):
        read_space([])
    roles = {"many": [f"m{i}" for i in range(30)]}
    for parameter, says in (
        ({"subset": "many"}, "more than 10,000 subsets"),
        ({"best": "many", "counts": [31]}, "31 models are wanted, but the role has 30"),
        ({"best": "many", "counts": ["x"]}, "a list of whole numbers from 0"),
        ({"subset": "many", "counts": [1]}, "counts: this belongs to 'best', and has no meaning beside 'subset'"),
        ({"best": "many", "sizes": [1]}, "sizes: this belongs to 'subset', and has no meaning beside 'best'"),
    ):
        with pytest.raises(SpecError, match=says):
            read_space({"models": roles, "parameters": {"n": parameter}, "layers": LAYERS})
    large = {name: {"range": [1, 9999]} for name in ("n", "m")}
    with pytest.raises(SpecError, match="points are more than 2,000,000"):
        read_space({"parameters": large, "layers": LAYERS}).count()
