"""What is refused before a call is paid for, and what is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from architectures import check, load
from architectures.check import Checked
from architectures.parse import parse
from architectures.preset import preset, preset_names
from architectures.reading import reads
from architectures.spec import TechniqueNode
from db.errors import ConfigError, SpecError
from nodes.base import Need
from providers.book import ModelBook
from tests.architectures.support import book_at

GENERATE = {"generate": {"model": "fast"}}


def refused(data: object, book: ModelBook | None = None) -> str:
    with pytest.raises(SpecError) as caught:
        check(parse(data), book, source="x.yaml")
    return str(caught.value)


def checked(data: object) -> Checked:
    return check(parse(data))


@pytest.mark.parametrize("name", preset_names())
def test_presets_pass_without_a_warning(name: str) -> None:
    assert check(preset(name), ModelBook(env={})) == Checked(())


@pytest.mark.parametrize("technique", ["critique", "fuse", "judge", "rank", "refine", "verify"])
def test_nothing_can_be_done_with_candidates_before_any_is_generated(technique: str) -> None:
    message = refused([{technique: {"model": "m"}}, GENERATE])
    assert message == (
        f"x.yaml: {technique}: it needs candidates, and nothing before it gives any; put generate before it."
    )


def test_an_evaluation_needs_unit_tests() -> None:
    message = refused([GENERATE, {"unit_test_evaluate": {"model": "m"}}])
    assert "it needs tests, and nothing before it gives any; put unit_test_generate before it." in message


def test_needs_are_followed_into_loops_and_nested_architectures() -> None:
    assert "x.yaml: loop.vote: it needs candidates" in refused([{"loop": {"max": 2, "body": ["vote"]}}, GENERATE])
    inner = {"architecture": {"spec": [{"rank": {"model": "m"}}]}}
    assert "x.yaml: architecture.rank: it needs candidates" in refused([inner])
    assert checked([GENERATE, inner]).warnings == ()


def test_the_output_must_hold_candidates() -> None:
    assert "unit_test_generate: the output holds no candidates" in refused([{"unit_test_generate": {"model": "m"}}])


def graph(**nodes: Any) -> dict[str, Any]:
    return {"nodes": nodes}


def draft_and(**condition: Any) -> dict[str, Any]:
    return graph(
        draft={"use": "generate", "model": "fast"},
        vote={"use": "vote", "after": "draft"},
        more={"use": "generate", "model": "fast", "after": "vote", "when": condition},
        end={"use": "vote", "after": ["draft", "more"]},
    )


def test_a_condition_reads_measures_that_were_taken() -> None:
    assert checked(draft_and(agreement={"below": 1})).warnings == ()
    assert checked(draft_and(candidates={"below": 1})).warnings == ()
    message = refused(draft_and(agrement={"below": 1}))
    assert message == "x.yaml: more.when: there is no measure 'agrement'. Did you mean 'agreement'?"
    assert "Known: agreement, answers, candidates, distinct_answers." in refused(draft_and(best={"below": 1}))


def test_a_loop_may_read_what_its_body_measures() -> None:
    body = [{"judge": {"model": "m"}}]
    loop = {"loop": {"max": 2, "body": body, "until": {"best_score": {"above": 8}}}}
    assert checked([GENERATE, loop]).warnings == ()
    loop["loop"]["until"] = {"agreement": {"above": 0.5}}
    assert "x.yaml: loop.until: there is no measure 'agreement'" in refused([GENERATE, loop])


def test_what_may_be_missing_where_a_node_is_skipped_is_warned_of() -> None:
    never = {"candidates": {"above": 0}}
    warnings = checked(
        graph(a={"use": "generate", "model": "fast", "when": never}, b={"use": "vote", "after": "a"})
    ).warnings
    assert warnings == (
        "architecture: b: it needs candidates, which may be missing where a node before it is skipped.",
        "architecture: b: where a node is skipped the output may hold no candidate.",
    )
    sure = graph(
        a={"use": "generate", "model": "fast"},
        b={"use": "refine", "model": "fast", "after": "a", "when": never},
        c={"use": "vote", "after": "b"},
    )
    assert checked(sure).warnings == ()


def test_work_that_nobody_reads_is_warned_of() -> None:
    critique = {"critique": {"model": "m"}}
    unread = "architecture: critique: nothing reads the critiques of this node before they are dropped."
    assert checked([GENERATE, critique]).warnings == (unread,)
    assert checked([GENERATE, critique, "vote"]).warnings == (unread,)
    assert checked([GENERATE, critique, {"fuse": {"model": "m", "use_critiques": False}}]).warnings == (unread,)
    assert checked([GENERATE, critique, "vote", {"rank": {"model": "m"}}]).warnings == ()
    assert checked([GENERATE, critique, {"refine": {"model": "m"}}]).warnings == ()
    assert checked([GENERATE, critique, {"loop": {"max": 1, "body": ["vote"]}}]).warnings == ()
    nested = {"architecture": {"spec": [critique]}}
    assert checked([GENERATE, nested, {"fuse": {"model": "m"}}]).warnings == ()
    tests = {"unit_test_generate": {"model": "m"}}
    (warning,) = checked([tests, GENERATE]).warnings
    assert "nothing reads the tests" in warning
    assert checked([tests, {"generate": {"model": "m", "show_tests": True}}]).warnings == ()


def test_candidates_that_are_replaced_unread_are_warned_of() -> None:
    (warning,) = checked([GENERATE, {"generate": {"model": "strong"}}]).warnings
    assert warning == (
        "architecture: generate: nothing reads its candidates: what follows makes new ones in their place."
    )
    assert checked(draft_and(agreement={"below": 1})).warnings == ()


@pytest.mark.parametrize(
    ("technique", "settings", "expected"),
    [
        ("fuse", {"model": "m"}, {"candidates", "critiques"}),
        ("fuse", {"model": "m", "use_critiques": False}, {"candidates"}),
        ("refine", {"model": "m"}, {"candidates", "critiques"}),
        ("generate", {"model": "m"}, set()),
        ("generate", {"model": "m", "show_tests": True}, {"tests"}),
    ],
)
def test_what_a_technique_reads(technique: str, settings: dict[str, Any], expected: set[Need]) -> None:
    node = parse([{technique: settings}]).nodes[0]
    assert isinstance(node, TechniqueNode)
    assert reads(node.settings) == expected


def test_unknown_models_are_named_with_their_node_and_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        check(parse([{"generate": {"model": "fsat"}}]), book_at(), source="x.yaml")
    assert str(caught.value).startswith("x.yaml: generate.model: Unknown model 'fsat'")
    assert "Did you mean 'fast'?" in str(caught.value)


def test_a_feature_that_a_model_lacks_is_named_with_model_and_node() -> None:
    message = refused([{"generate": {"model": "fast", "top_logprobs": 2}}], book_at())
    assert message.startswith("x.yaml: generate: the node needs 'logprobs' of its models, which 'fast' lacks")
    capable = book_at("http://x/v1", "fast", capabilities={"logprobs": True, "top_logprobs": True})
    assert check(parse([{"generate": {"model": "fast", "top_logprobs": 2}}]), capable) == Checked(())


def test_loading_checks_and_keeps_the_warnings() -> None:
    loaded = load([GENERATE, {"critique": {"model": "judge"}}], book_at())
    assert len(loaded.warnings) == 1
    with pytest.raises(SpecError, match="needs candidates"):
        load(["vote"])
