from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from db.errors import SpecError
from nodes import registry
from nodes.base import Context, Estimator, NodePlan, Shape, State, Technique
from nodes.contract import CONTRACT
from nodes.describe import describe_class
from nodes.docs import page
from nodes.probe import probes

SHOUT = '''
"""A user's technique."""
from nodes import NodePlan, State, Technique, technique

SHADOW = "the user's own"

@technique("{name}")
class Shout(Technique):
    """Write every candidate in capital letters.

    When to use it: never.
    Calls: 0.
    Paper: none.
    Symbols: none.
    Example:
        ```yaml
        nodes:
          draft: {{use: generate, model: fast}}
          loud: {{use: {name}, after: draft, mark: "?"}}
        ```
    """

    needs = frozenset({{"candidates"}})
    mark: str = "!"

    async def run(self, state, context):
        from nodes.calls import needed
        from dataclasses import replace
        loud = tuple(replace(c, verdict=None) for c in needed(state, context.node))
        return replace(state, candidates=loud)

    def plan(self, shape, estimator):
        return NodePlan((), shape)
'''


@pytest.fixture(autouse=True)
def _registry_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in registry.BUILT_IN:
        registry.get(name)
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.setattr(registry, "_loaded_files", {})
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("_colonnade_file_"):
            del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def test_unknown_technique_says_what_was_meant() -> None:
    with pytest.raises(SpecError, match=r"no technique 'crituqe'\. Did you mean 'critique'\?"):
        registry.get("crituqe")


def test_names_are_sorted_and_hold_all_built_in_ones() -> None:
    assert list(registry.names()) == sorted(registry.names())
    assert set(registry.BUILT_IN) <= set(registry.names())


def test_every_built_in_technique_loads_under_its_name() -> None:
    for name in registry.BUILT_IN:
        cls = registry.get(name)
        assert registry.name_of(cls) == name
        assert cls.__module__ == f"nodes.{name}"


def test_every_technique_in_the_folder_is_built_in() -> None:
    folder = Path(registry.__file__).parent
    marks = {path.stem: f'\n@technique("{path.stem}")\n' in path.read_text() for path in folder.glob("*.py")}
    assert {name for name, is_technique in marks.items() if is_technique} == set(registry.BUILT_IN)


def test_name_of_an_unregistered_class_is_an_error() -> None:
    with pytest.raises(SpecError, match="not registered"):
        registry.name_of(make("Idle"))


DOC = """Do nothing at all.

When to use it: never.
Calls: 0.
Paper: none.
Symbols: none.
Example: none.
"""


def make(name: str, doc: str | None = DOC, **body: object) -> type[Technique]:
    async def run(self: Technique, state: State, context: Context) -> State:
        return state

    def plan(self: Technique, shape: Shape, estimator: Estimator) -> NodePlan:
        return NodePlan((), shape)

    return type(name, (Technique,), {"__doc__": doc, "run": run, "plan": plan, "__module__": __name__, **body})


@pytest.mark.parametrize(
    ("name", "cls", "message"),
    [
        ("Shout", make("A"), "small letters"),
        ("two words", make("A"), "small letters"),
        ("rank", make("A"), "name of a built-in"),
        ("idle", make("A", None), "begins with a sentence"),
        ("idle", make("A", "Do nothing at all."), "'When to use it', 'Calls', 'Paper', 'Symbols', 'Example'"),
        ("idle", make("A", DOC.replace("Symbols: none.\n", "")), "lacks 'Symbols'"),
        ("idle", make("A", model_config={"frozen": False}), "frozen=True"),
        ("idle", make("A", model_config={"extra": "allow"}), "extra='forbid'"),
        ("idle", make("A", run=Technique.run), "is abstract"),
    ],
)
def test_what_cannot_be_registered(name: str, cls: type[Technique], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        registry.technique(name)(cls)
    assert name not in registry._classes or name in registry.BUILT_IN


def test_a_name_is_taken_once_but_a_module_may_be_reloaded() -> None:
    registry.technique("idle")(make("Idle"))
    registry.technique("idle")(make("Idle"))
    with pytest.raises(SpecError, match=r"has a name that .*\.Idle has already"):
        registry.technique("idle")(make("Other"))


def test_a_users_file_loads_under_a_private_name_and_holds_the_contract(tmp_path: Path) -> None:
    path = write(tmp_path / "nodes" / "shout.py", SHOUT.format(name="shout"))
    assert registry.load_file(path) == ("shout",)
    cls = registry.get("shout")
    assert cls.__module__.startswith("_colonnade_file_")
    assert registry.load_file(str(path)) == ("shout",)
    assert registry.get("shout") is cls
    (probe,) = probes("shout")
    for check in CONTRACT:
        check(probe)


def test_a_users_nodes_folder_neither_shadows_nor_is_shadowed(tmp_path: Path) -> None:
    write(tmp_path / "nodes" / "__init__.py", "raise RuntimeError('the user’s folder was imported')")
    write(tmp_path / "nodes" / "rank.py", SHOUT.format(name="shout"))
    script = write(
        tmp_path / "bin" / "start.py",
        """
        import nodes, sys
        from nodes.registry import get, load_file
        assert load_file("nodes/rank.py") == ("shout",)
        theirs, ours = get("shout"), get("rank")
        assert sys.modules[theirs.__module__].SHADOW == "the user's own"
        assert ours.__module__ == "nodes.rank" and not hasattr(sys.modules["nodes.rank"], "SHADOW")
        print(nodes.__file__)
        """,
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == Path(registry.__file__).parent


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "fails with ModuleNotFoundError"),
        ("def broken(:", "fails with SyntaxError"),
        ("x = 1", "registers no technique"),
        (SHOUT.format(name="rank"), "built-in"),
        (SHOUT.format(name="shout") + "\nraise ValueError('late')", "fails with ValueError: late"),
    ],
)
def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "mine.py", text)
    before = dict(registry._classes), {name for name in sys.modules if name.startswith("_colonnade_file_")}
    with pytest.raises(SpecError, match=message):
        registry.load_file(path)
    assert (dict(registry._classes), {n for n in sys.modules if n.startswith("_colonnade_file_")}) == before


def test_a_file_that_is_not_there_or_no_python(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="There is no technique file"):
        registry.load_file(tmp_path / "absent.py")
    with pytest.raises(SpecError, match=r"must end in \.py"):
        registry.load_file(write(tmp_path / "mine.txt", "x = 1"))


def entry(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    by_name: dict[str, tuple[EntryPoint, ...]] = {}
    for point in points:
        by_name[point.name] = (*by_name.get(point.name, ()), point)
    monkeypatch.setattr(registry, "_entry_points", lambda: by_name)


def test_a_package_brings_a_technique_by_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "site" / "loud_package.py", SHOUT.format(name="loud"))
    info = tmp_path / "site" / "loud-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    write(info / "entry_points.txt", "[colonnade.nodes]\nloud = loud_package:Shout\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry._entry_points.cache_clear()
    try:
        assert "loud" in registry.names()
        assert "loud_package" not in sys.modules, "naming techniques must not load them"
        assert registry.get("loud").__name__ == "Shout"
    finally:
        registry._entry_points.cache_clear()
        sys.modules.pop("loud_package", None)


def test_broken_entry_points_are_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "empty_plugin.py", "x = 1")
    write(tmp_path / "refused_plugin.py", SHOUT.format(name="Refused"))
    monkeypatch.syspath_prepend(str(tmp_path))
    entry(
        monkeypatch,
        EntryPoint("absent", "no_such_package:Thing", registry.GROUP),
        EntryPoint("empty", "empty_plugin", registry.GROUP),
        EntryPoint("refused", "refused_plugin", registry.GROUP),
        EntryPoint("twice", "one:Thing", registry.GROUP),
        EntryPoint("twice", "other:Thing", registry.GROUP),
    )
    for name, message in {
        "absent": r"cannot be loaded \(ModuleNotFoundError",
        "empty": "registers no technique of that name",
        "refused": "small letters",
        "twice": "Two packages bring a technique 'twice'",
    }.items():
        with pytest.raises(SpecError, match=message):
            registry.get(name)


def test_describe_gives_settings_with_bounds_and_defaults() -> None:
    about = registry.describe("rank")
    assert (
        about.summary == "Compare the candidates with one another, put the best first, and keep as many as are wanted."
    )
    settings = {setting.name: setting for setting in about.settings}
    assert about.settings[0].name == "model"
    assert settings["model"].default is None
    assert settings["keep"].type == "whole number ≥ 1 or null"
    assert settings["method"].type == "`listwise` or `pairwise`"
    assert all(setting.description for setting in about.settings)


def test_settings_of_every_kind_have_words_for_their_type() -> None:
    class Mark(BaseModel):
        sign: str

    fields = {"way": Literal["loud"], "marks": tuple[Mark, ...], "table": dict[str, int], "free": object}
    about = describe_class("idle", make("Idle", __annotations__=fields, way="loud", marks=(), table={}, free=None))
    assert {setting.name: setting.type for setting in about.settings} == {
        "way": "`loud`",
        "marks": "list (object)",
        "table": "object",
        "free": "any",
    }


def test_a_technique_without_settings_or_explanation_has_a_page() -> None:
    registry.technique("idle")(make("Idle"))
    text = page(registry.describe("idle"))
    assert (
        "# idle\n\nDo nothing at all.\n\n## When to use it\n\nNever.\n\n## Calls\n\n0.\n\n## Settings\n\nNone.\n"
        in text
    )
