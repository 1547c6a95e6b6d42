"""Scorers and tools of one's own: from a file, from a package, and what is refused, in one sentence."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from db.errors import SpecError
from nodes import registry
from nodes.parts import points_of
from nodes.scorers.registry import SCORERS, get_scorer, scorer_names
from nodes.tools.registry import TOOLS, get_tool, tool_names

SCORER = '''
from nodes.scorers import Scored, Scorer, scorer


@scorer("{name}")
class Mine(Scorer):
    """Score all alike.

    When to use it: never.
    Calls: 0.
    Paper: none.
    Symbols: none.
    Example:
        ```yaml
        layers: []
        ```
    """

    async def score(self, state, candidates, context):
        return Scored((None,) * len(candidates), [])

    def plan(self, shape, estimator):
        return ()
'''
TOOL = '''
from nodes.tools import Tool, tool


@tool("{name}")
class Mine(Tool):
    """Say it again.

    When to use it: never.
    Limits: none.
    """

    usage = "echo[words]"

    async def call(self, text):
        return text
'''


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_loaded_files", dict(registry._loaded_files))
    for parts in (SCORERS, TOOLS):
        monkeypatch.setattr(parts, "_classes", dict(parts._classes))


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_a_file_may_hold_a_scorer_or_a_tool_alone(tmp_path: Path) -> None:
    assert registry.load_file(write(tmp_path / "scorer.py", SCORER.format(name="level"))) == ()
    assert get_scorer("level")().model_dump() == {}
    assert registry.load_file(write(tmp_path / "tool.py", TOOL.format(name="echo"))) == ()
    assert "echo" in tool_names()
    # A setting names it, and its dump is read again.
    value = TOOLS.parse({"use": "echo", "name": "again"})
    assert TOOLS.parse(TOOLS.dump(value)) == value


def test_what_a_failing_file_registered_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="ZeroDivisionError"):
        registry.load_file(write(tmp_path / "broken.py", SCORER.format(name="gone") + "\n1 / 0\n"))
    assert "gone" not in scorer_names()
    with pytest.raises(SpecError, match="no technique, scorer or tool"):
        registry.load_file(write(tmp_path / "empty.py", "x = 1"))


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="has the name of a built-in scorer; choose another"):
        registry.load_file(write(tmp_path / "judge.py", SCORER.format(name="judge")))
    registry.load_file(write(tmp_path / "one.py", TOOL.format(name="twice")))
    with pytest.raises(SpecError, match=r"has a name that _colonnade_file_.*Mine has already"):
        registry.load_file(write(tmp_path / "two.py", TOOL.format(name="twice")))


def test_packages_bring_scorers_and_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "level_package.py", SCORER.format(name="level"))
    write(tmp_path / "silent_package.py", "x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    group = "colonnade.scorers"
    points = {
        "level": (EntryPoint("level", "level_package:Mine", group),),
        "absent": (EntryPoint("absent", "no_such_package:Mine", group),),
        "silent": (EntryPoint("silent", "silent_package", group),),
        "both": (EntryPoint("both", "one:Mine", group), EntryPoint("both", "other:Mine", group)),
    }
    monkeypatch.setitem(SCORERS.__dict__, "_points", points)
    assert "level" in scorer_names()
    assert "level_package" not in sys.modules, "naming scorers must not load them"
    assert get_scorer("level").__name__ == "Mine"
    sys.modules.pop("level_package")
    for name, message in {
        "absent": r"The scorer 'absent' of no_such_package:Mine cannot be loaded \(ModuleNotFoundError",
        "silent": "registers no scorer of that name",
        "both": "Two packages bring a scorer 'both'",
        "judg": "There is no scorer 'judg'. Did you mean 'judge'",
    }.items():
        with pytest.raises(SpecError, match=message):
            get_scorer(name)
    assert points_of("colonnade.nothing") == {}
    with pytest.raises(SpecError, match=r"There is no tool 'calculatr'\. Did you mean 'calculator'"):
        get_tool("calculatr")
