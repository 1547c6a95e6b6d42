"""An architecture as Mermaid text, which GitHub and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from architectures.picture import Box, Picture, picture

if TYPE_CHECKING:
    from architectures.spec import ArchitectureSpec

__all__ = ["draw_mermaid"]


def draw_mermaid(spec: ArchitectureSpec) -> str:
    """Return a Mermaid flowchart from the question to the answer; loops and nested architectures are subgraphs."""
    shown = picture(spec)
    lines = ["flowchart TD", '    question(["question"])', *_boxes(shown, "n", "    "), '    answer(["answer"])']
    lines += [f"    question {_arrow(shown.boxes[start])} n{start}" for start in shown.starts]
    lines += _arrows(shown, "n", "    ")
    lines += [f"    n{end} --> answer" for end in shown.ends]
    return "\n".join(lines) + "\n"


def _boxes(shown: Picture, prefix: str, indent: str) -> Iterator[str]:
    for number, box in enumerate(shown.boxes):
        name = f"{prefix}{number}"
        if box.inside is None:
            text = "<br/>".join([f"<b>{_escaped(box.title)}</b>", *map(_escaped, box.lines)])
            yield f'{indent}{name}["{text}"]'
        else:
            yield f'{indent}subgraph {name} ["{_escaped(box.title)}"]'
            yield from _boxes(box.inside, f"{name}_", f"{indent}    ")
            yield from _arrows(box.inside, f"{name}_", f"{indent}    ")
            yield f"{indent}end"


def _arrows(shown: Picture, prefix: str, indent: str) -> list[str]:
    return [f"{indent}{prefix}{tail} {_arrow(shown.boxes[head])} {prefix}{head}" for tail, head in shown.arrows]


def _arrow(head: Box) -> str:
    return f'-->|"{_escaped(head.condition)}"|' if head.condition else "-->"


def _escaped(text: str) -> str:
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(character, entity)
    return text
