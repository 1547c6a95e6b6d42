"""The pages of the techniques are those that the docstrings make."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from architectures import preset_names
from nodes.catalog import SCORERS
from nodes.registry import BUILT_IN

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "generate_docs.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_pages_are_current() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python scripts/generate_docs.py`; stale:\n{done.stdout}{done.stderr}"


def test_every_technique_scorer_and_preset_has_a_page_and_a_row(script: ModuleType) -> None:
    index = (ROOT / "docs" / "techniques.md").read_text("utf-8")
    for kind, names in (
        ("techniques", BUILT_IN),
        ("scorers", [name for members in SCORERS.values() for name in members]),
        ("presets", preset_names()),
    ):
        for name in names:
            assert index.count(f"[{name}]({kind}/{name}.md)") == 1
            assert f"# {name}\n" in (ROOT / "docs" / kind / f"{name}.md").read_text("utf-8")


def test_a_changed_an_absent_and_a_left_over_page_are_found(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(sys, "argv", ["generate_docs.py"])
    script.main()
    assert script.stale(script.pages()) == []
    folder = tmp_path / "docs" / "techniques"
    (folder / "rank.md").write_text("something else")
    (folder / "vote.md").unlink()
    (folder / "gone.md").write_text("no technique")
    assert [path.name for path in script.stale(script.pages())] == ["vote.md", "rank.md", "gone.md"]
    monkeypatch.setattr(sys, "argv", ["generate_docs.py", "--check"])
    with pytest.raises(SystemExit) as left:
        script.main()
    assert left.value.code == 1
    assert (folder / "gone.md").is_file()
    monkeypatch.setattr(sys, "argv", ["generate_docs.py"])
    script.main()
    assert script.stale(script.pages()) == []
