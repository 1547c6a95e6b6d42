"""An architecture as SVG, made here: no network, no other program; readable on light and on dark pages."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.sax.saxutils import escape

from architectures.layout import Layout, Point, Size, lay_out
from architectures.picture import Box, Family, picture

if TYPE_CHECKING:
    from architectures.spec import ArchitectureSpec

__all__ = ["draw_svg"]

_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_MARGIN: Final = 16.0
_PAD: Final = 14.0
_TITLE: Final = 14.0
_TEXT: Final = 12.0
_LEADING: Final = 17.0
_HEAD: Final = 30.0
"""Height of the title of a frame."""
_LEAST_WIDTH: Final = 116.0

# Boxes bring their own ground, so their words read anywhere; lines and words outside are of a grey that does, too.
_GREY: Final = "#7d8590"
_INK: Final = "#1c2128"
_SOFT: Final = "#424a53"
_COLOURS: Final[dict[Family, tuple[str, str]]] = {
    "choose": ("#dff3e4", "#3f9a5c"),
    "examine": ("#fdf0d5", "#c98a1b"),
    "frame": ("none", _GREY),
    "make": ("#dcebfb", "#3f7fc4"),
    "merge": ("#ebe2fa", "#8259c2"),
    "other": ("#e9ecef", "#6c757d"),
}


class _Drawn(NamedTuple):
    """A picture with its layout; the pills of question and answer are its first and last box at the top."""

    layout: Layout
    boxes: tuple[Box, ...]
    inside: tuple[_Drawn | None, ...]


_QUESTION: Final = Box("question", "question", "", (), "other")
_ANSWER: Final = Box("answer", "answer", "", (), "other")


def draw_svg(spec: ArchitectureSpec) -> str:
    """Return a drawing from the question at the top to the answer at the bottom."""
    shown = picture(spec)
    last = len(shown.boxes) + 1
    arrows = [(0, start + 1) for start in shown.starts]
    arrows += [(tail + 1, head + 1) for tail, head in shown.arrows]
    arrows += [(end + 1, last) for end in shown.ends]
    drawn = _lay_out((_QUESTION, *shown.boxes, _ANSWER), arrows)
    width, height = (side + 2 * _MARGIN for side in drawn.layout.size)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.1f} {height:.1f}" role="img" font-family="{escape(_FONT)}">'
    )
    marker = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto"><path d="M0.5 0.5 L7.5 4 L0.5 7.5 Z" fill="{_GREY}"/></marker></defs>'
    )
    body = _graph(drawn, Point(_MARGIN, _MARGIN))
    return "\n".join([head, f"<title>{escape(spec.name)}</title>", marker, *body, "</svg>"]) + "\n"


def _lay_out(boxes: tuple[Box, ...], arrows: list[tuple[int, int]]) -> _Drawn:
    inside = tuple(_lay_out(box.inside.boxes, list(box.inside.arrows)) if box.inside else None for box in boxes)
    sizes = [_size(box, drawn) for box, drawn in zip(boxes, inside, strict=True)]
    return _Drawn(lay_out(sizes, arrows), boxes, inside)


def _size(box: Box, inside: _Drawn | None) -> Size:
    if box is _QUESTION or box is _ANSWER:
        return Size(92, 28)
    words = max(_width(box.title, _TITLE, bold=True), _width(box.condition, _TEXT))
    if inside:
        width, height = inside.layout.size
        top = _HEAD + (_LEADING if box.condition else 0)
        return Size(max(width, words) + 2 * _PAD, height + top + _PAD)
    words = max([words, *(_width(line, _TEXT) for line in box.lines)])
    rows = len(box.lines) + bool(box.condition)
    return Size(max(words + 2 * _PAD, _LEAST_WIDTH), 2 * 9 + _TITLE + rows * _LEADING)


def _width(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate how wide a text is, a little on the wide side, since the reader's font is not known."""
    narrow, wide = "ijlt.,:;|!'()[]/ ", "mwMW@%—…"
    ems = sum(0.36 if c in narrow else 0.95 if c in wide else 0.7 if c.isupper() else 0.61 for c in text)
    return ems * size * (1.1 if bold else 1.0)


def _graph(drawn: _Drawn, at: Point) -> list[str]:
    parts = [_arrow(route, at) for route in drawn.layout.routes]
    for box, inside, corner in zip(drawn.boxes, drawn.inside, drawn.layout.corners, strict=True):
        place = Point(at.x + corner.x, at.y + corner.y)
        size = _size(box, inside)
        if box is _QUESTION or box is _ANSWER:
            parts += _pill(box, place, size)
        elif inside:
            parts += _frame(box, inside, place, size)
        else:
            parts += _technique(box, place, size)
    return parts


def _arrow(route: tuple[Point, ...], at: Point) -> str:
    points = [Point(at.x + x, at.y + y) for x, y in route]
    # The tip of the arrow ends just above the box.
    points[-1] = points[-1]._replace(y=points[-1].y - 2)
    path = f"M{points[0].x:.1f} {points[0].y:.1f}"
    for number, (start, end) in enumerate(pairwise(points)):
        if number % 2 == 0:
            path += f" L{end.x:.1f} {end.y:.1f}"
            continue
        half = (end.y - start.y) / 2
        path += f" C{start.x:.1f} {start.y + half:.1f} {end.x:.1f} {end.y - half:.1f} {end.x:.1f} {end.y:.1f}"
    return f'<path d="{path}" fill="none" stroke="{_GREY}" stroke-width="1.5" marker-end="url(#arrow)"/>'


def _pill(box: Box, at: Point, size: Size) -> list[str]:
    return [
        _rect(at, size, "none", _GREY, radius=size.height / 2),
        _words(box.title, at.x + size.width / 2, at.y + size.height / 2 + 4.2, _TEXT, _GREY),
    ]


def _technique(box: Box, at: Point, size: Size) -> list[str]:
    fill, stroke = _COLOURS[box.family]
    parts = [_rect(at, size, fill, stroke, dashed=bool(box.condition))]
    middle, y = at.x + size.width / 2, at.y + 9 + _TITLE - 2
    if box.condition:
        parts.append(_words(box.condition, middle, y, _TEXT, stroke, italic=True))
        y += _LEADING
    parts.append(_words(box.title, middle, y, _TITLE, _INK, bold=True))
    return parts + [
        _words(line, middle, y + number * _LEADING, _TEXT, _SOFT) for number, line in enumerate(box.lines, 1)
    ]


def _frame(box: Box, inside: _Drawn, at: Point, size: Size) -> list[str]:
    parts = [_rect(at, size, "none", _GREY, dashed=True, radius=12)]
    y = at.y + 20
    if box.condition:
        parts.append(_words(box.condition, at.x + _PAD, y, _TEXT, _GREY, italic=True, anchor="start"))
        y += _LEADING
    parts.append(_words(box.title, at.x + _PAD, y, _TITLE, _GREY, bold=True, anchor="start"))
    top = at.y + _HEAD + (_LEADING if box.condition else 0)
    return parts + _graph(inside, Point(at.x + (size.width - inside.layout.size.width) / 2, top))


def _rect(at: Point, size: Size, fill: str, stroke: str, *, dashed: bool = False, radius: float = 8) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<rect x="{at.x:.1f}" y="{at.y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="{radius:.0f}" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dash}/>'
    )


def _words(
    text: str,
    x: float,
    y: float,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    italic: bool = False,
    anchor: str = "middle",
) -> str:
    style = (' font-weight="600"' if bold else "") + (' font-style="italic"' if italic else "")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.0f}" fill="{colour}" text-anchor="{anchor}"{style}>'
        f"{escape(text)}</text>"
    )
