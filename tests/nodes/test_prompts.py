from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nodes
from db.errors import ConfigError
from nodes.base import State
from nodes.contract import CONTRACT
from nodes.probe import probes
from nodes.prompting import PROMPT_DIRECTORY, render, styles, template_digest
from nodes.registry import BUILT_IN, get
from nodes.shown import Shown
from nodes.testing import ScriptedContext, drafted, try_out

TEMPLATES = (
    "critique",
    "fuse",
    "generate",
    "judge",
    "rank",
    "rank_pair",
    "refine",
    "unit_test_evaluate",
    "unit_tests",
    "verify_reason",
    "verify_verdict",
)
"""Those for which the models that ship were trained."""
INSTRUCTED = {
    "concept_store",
    "decompose_solve",
    "divide_aggregate",
    "rewoo",
    "segment_summarise",
    "skill_router",
    "spawn_join",
    "x_mbr",
}
"""Techniques with prompts that the style `compact` has not: the models that ship cannot play their parts."""
EVERYTHING: dict[str, object] = {
    "question": "How many cups?",
    "examples": (),
    "tests": ["It is even."],
    "candidates": [Shown(1, "twelve", "right"), Shown(2, "ten", None)],
    "keep": 1,
    "first": "twelve",
    "second": "ten",
    "candidate": "twelve",
    "critique": None,
    "reasoning": "3 rows of 4",
    "count": 3,
    "partial": "twe",
}


@pytest.mark.parametrize("style", ["compact", "default"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_is_there_in_both_styles_and_shows_the_question(style: str, template: str) -> None:
    messages = render(style, template, EVERYTHING)
    assert [message.role for message in messages] == ["user"]
    assert "How many cups?" in messages[0].content
    assert messages[0].content == messages[0].content.strip()


def test_every_template_is_one_that_somebody_uses() -> None:
    source = "\n".join(path.read_text("utf-8") for path in Path(nodes.__file__).parent.rglob("*.py"))
    for style in ("compact", "default"):
        for path in (PROMPT_DIRECTORY / style).glob("*.jinja"):
            name = path.stem.removesuffix(".system")
            assert f'"{name}"' in source, f"nobody uses {style}/{path.name}"


def test_what_is_there_in_compact_is_there_by_default() -> None:
    compact = {path.stem for path in (PROMPT_DIRECTORY / "compact").glob("*.jinja")}
    assert compact <= {path.stem for path in (PROMPT_DIRECTORY / "default").glob("*.jinja")}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_technique_runs_on_compact_prompts_or_says_that_it_cannot(name: str) -> None:
    lacking = False
    for probe in probes(name):
        context = ScriptedContext(probe.script, style="compact")
        try:
            probe.run(context)
        except ConfigError as error:
            lacking = "The prompt style 'compact' has no template" in str(error)
    assert lacking == (name in INSTRUCTED)


@pytest.mark.parametrize(
    ("name", "reply", "read"),
    [
        (
            "critique",
            "[1] right\n[2] wrong at step 2: 4 + 4",
            lambda s: s.candidates[1].critique == "wrong at step 2: 4 + 4",
        ),
        ("rank", "[1] wrong [2] right\nRanking: [2] > [1]", lambda s: s.candidates[0].text == "b"),
        ("judge", "Score: 7", lambda s: s.measures == {"best_score": 7.0}),
        ("unit_test_evaluate", "1. [Passed]\n2. [Failed]", lambda s: s.candidates[0].tests_passed == (True, False)),
        ("unit_test_generate", "1. It is even.\n2. It is short.", lambda s: s.tests == ("It is even.", "It is short.")),
        ("verify", "step 1: right\nVerdict: correct", lambda s: s.measures == {"verified_fraction": 1.0}),
    ],
)
def test_compact_replies_are_read(name: str, reply: str, read: Callable[[State], bool]) -> None:
    before = State(question="Q", candidates=drafted("a", "b"), tests=("It is even.", "It is short."))
    settings = {"model": "m", "count": 2} if name == "unit_test_generate" else {"model": "m"}
    tried = try_out(get(name).model_validate(settings), before, lambda prompt, index: reply, style="compact")
    assert read(tried.state), tried.state
    assert not [detail for kind, detail in tried.notes if kind == "unparsed"]


def test_a_user_may_override_one_template_and_keep_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = template_digest("default", "judge"), template_digest("default", "fuse")
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "judge.jinja").write_text("Mark this: {{ candidate }}")
    (tmp_path / "default" / "judge.system.jinja").write_text("You are a teacher.")
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("COLONNADE_PROMPTS", str(tmp_path))
    assert render("default", "judge", EVERYTHING) == (("system", "You are a teacher."), ("user", "Mark this: twelve"))
    assert render("default", "judge", EVERYTHING, system="Mine.")[0].content == "Mine."
    assert template_digest("default", "judge") != shipped[0]
    assert template_digest("default", "fuse") == shipped[1]
    assert styles() == ("compact", "default", "mine")


def test_a_style_or_template_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'compact'"):
        render("compakt", "judge", EVERYTHING)
    with pytest.raises(ConfigError, match="Did you mean 'judge'"):
        render("default", "juge", EVERYTHING)
    with pytest.raises(ConfigError, match="Did you mean 'judge'"):
        template_digest("default", "juge")
    monkeypatch.setenv("COLONNADE_PROMPTS", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="COLONNADE_PROMPTS names"):
        styles()


def test_the_contract_is_not_empty() -> None:
    assert len({check.__name__ for check in CONTRACT}) == len(CONTRACT) > 10
