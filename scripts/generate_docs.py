"""Write the pages of the techniques from their docstrings.

python scripts/generate_docs.py            # write docs/techniques.md and docs/techniques/*.md
python scripts/generate_docs.py --check    # change nothing; exit code 1 where a page is not what it would be
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from nodes.docs import page
from nodes.registry import BUILT_IN, describe

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

INDEX = """\
# Techniques

The steps that an architecture is made of. Each page is made from the docstring of its technique, and
`colonnade techniques show NAME` prints the same. A technique of your own: see [Extending](extending.md).

| technique | what it does | calls | needs | gives |
|---|---|---|---|---|
{rows}

Calls are those for one question; the letters are explained on the page. What a technique needs of the state must have
been given by a technique before it, which is checked before anything is sent.

Around techniques stand two forms of nodes: `use: loop` repeats a body until a condition holds, `use: architecture`
nests an architecture in another (see [Concepts](concepts.md)).
"""


def pages() -> Mapping[Path, str]:
    """Return what every page holds, by its path."""
    made = {DOCS / "techniques.md": INDEX.format(rows="\n".join(_row(name) for name in BUILT_IN))}
    for name in BUILT_IN:
        made[DOCS / "techniques" / f"{name}.md"] = _marked(name)
    return made


def stale(expected: Mapping[Path, str]) -> list[Path]:
    """Name the pages that are absent, differ, or belong to no technique."""
    differing = [path for path, text in expected.items() if not path.is_file() or path.read_text("utf-8") != text]
    return differing + [path for path in sorted((DOCS / "techniques").glob("*.md")) if path not in expected]


def _marked(name: str) -> str:
    return f"<!-- Made by scripts/generate_docs.py from nodes/{name}.py; edit that file. -->\n\n{page(name)}"


def _row(name: str) -> str:
    about = describe(name)
    calls = about.sections["Calls"].split(",")[0].split(";")[0].split(":")[0].rstrip(".").replace("\n", " ")
    cells = (
        f"[{name}](techniques/{name}.md)",
        about.summary,
        calls,
        ", ".join(about.needs) or "-",
        ", ".join(about.gives) or "-",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, say which pages are stale")
    chosen = parser.parse_args()
    expected = pages()
    old = stale(expected)
    for path in old:
        print(path.relative_to(ROOT))
    if chosen.check:
        sys.exit(1 if old else 0)
    (DOCS / "techniques").mkdir(parents=True, exist_ok=True)
    for path in old:
        if path in expected:
            path.write_text(expected[path], "utf-8")
        else:
            path.unlink()


if __name__ == "__main__":
    main()
