"""Every program in `examples/` runs by itself and prints what it says of itself in a line `# Prints: …`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))
_PRINTS = re.compile(r"^# Prints: (.+)$", re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_it_prints_what_it_says(program: Path, tmp_path: Path) -> None:
    expected = _PRINTS.findall(program.read_text("utf-8"))
    assert expected, f"{program.name} has no line '# Prints: …' that says what its output holds"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COLONNADE_")}
    # A folder of its own to work in, and this checkout to import from.
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout


def test_there_are_programs() -> None:
    expected = {"cascade_saves_half", "custom_technique", "debate", "medprompt", "rewoo_two_tools", "train_router"}
    assert expected <= {program.stem for program in PROGRAMS}
