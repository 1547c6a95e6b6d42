"""The code blocks of a document, with what its comments say of them.

An HTML comment in front of a block says what is to be done with it: `<!-- file: shout.py -->` writes it to a file in
the document's working directory, `<!-- not run: why -->` leaves it alone. Blocks that are marked `text` or `mermaid`
are for reading. A command whose words are written in capitals (`compare RUN RUN`) is checked, not run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["Block", "blocks_of"]

_FENCE = re.compile(
    r"(?:^<!-- *(?P<mark>file|not run): *(?P<said>[^>]+?) *-->\n\n?)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One code block."""

    language: str
    code: str
    line: int
    mark: Literal["file", "not run"] | None
    said: str
    """The name of the file, or why the block is not run."""


def blocks_of(path: Path) -> list[Block]:
    """Return the code blocks of a Markdown document in their order."""
    text = path.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        mark = match["mark"]
        line = text.count("\n", 0, match.start("code"))
        known: Literal["file", "not run"] | None = "file" if mark == "file" else "not run" if mark else None
        found.append(Block(match["language"], match["code"], line, known, match["said"] or ""))
    return found
