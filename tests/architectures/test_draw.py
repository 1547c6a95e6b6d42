"""Drawings: everything is shown, nothing lies on anything else, and the pictures are what they claim to be."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures import draw_mermaid, draw_svg, preset, preset_names
from architectures.layout import Size, lay_out
from architectures.parse import parse
from architectures.picture import picture
from architectures.spec import ArchitectureSpec

SVG = "{http://www.w3.org/2000/svg}"
RICH = parse(
    {
        "name": 'a "rich" <one> & all',
        "nodes": {
            "tests": {"use": "unit_test_generate", "model": "judge", "count": 8},
            "many": {"use": "generate", "model": [f"vendor/{'x' * 40}-{k}" for k in range(6)], "samples": 3},
            "plain": {"use": "generate", "model": "fast", "temperature": 0.5},
            "evaluate": {"use": "unit_test_evaluate", "model": "judge", "after": ["tests", "many", "plain"], "keep": 4},
            "pairs": {"use": "rank", "model": "m", "method": "pairwise", "after": "evaluate", "keep": 2},
            "improve": {
                "use": "loop",
                "after": "evaluate",
                "max": 3,
                "until": {"best_score": {"at_least": 9}},
                "body": [{"refine": {"model": "m"}}, {"judge": {"model": "j"}}],
            },
            "again": {"use": "loop", "after": "improve", "max": 2, "body": ["vote"]},
            "mixture": {
                "use": "architecture",
                "preset": "mixture-of-agents",
                "after": "plain",
                "when": {"candidates": {"at_most": 2}},
            },
            "architecture": {"use": "architecture", "preset": "single", "after": "plain"},
            "end": {"use": "fuse", "model": "big", "after": ["pairs", "again", "mixture", "architecture", "plain"]},
        },
    }
)
SPECS = {**{name: preset(name) for name in preset_names()}, "rich": RICH}


def rectangles(drawing: str) -> list[tuple[float, float, float, float]]:
    root = ElementTree.fromstring(drawing)
    return [
        (float(r.get("x", 0)), float(r.get("y", 0)), float(r.get("width", 0)), float(r.get("height", 0)))
        for r in root.iter(f"{SVG}rect")
    ]


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_an_svg_is_well_formed_holds_all_words_and_keeps_inside_its_edges(spec: ArchitectureSpec) -> None:
    drawing = draw_svg(spec)
    root = ElementTree.fromstring(drawing)
    assert root.findtext(f"{SVG}title") == spec.name
    words = {element.text for element in root.iter(f"{SVG}text")}
    assert {"question", "answer"} <= words
    for box in picture(spec).boxes:
        assert {box.title, *box.lines} <= words
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for x, y, w, h in rectangles(drawing):
        assert x >= 0
        assert y >= 0
        assert x + w <= width + 1
        assert y + h <= height + 1


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_boxes_lie_apart_or_one_inside_the_other(spec: ArchitectureSpec) -> None:
    for (x, y, w, h), (a, b, c, d) in itertools.combinations(rectangles(draw_svg(spec)), 2):
        apart = x + w <= a or a + c <= x or y + h <= b or b + d <= y
        holds = x <= a and y <= b and x + w >= a + c and y + h >= b + d
        held = a <= x and b <= y and a + c >= x + w and b + d >= y + h
        assert apart or holds or held


def test_a_drawing_fetches_nothing() -> None:
    drawing = draw_svg(RICH).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in drawing
    assert "<script" not in drawing
    assert "@import" not in drawing


def test_boxes_say_models_settings_and_conditions_in_short() -> None:
    boxes = {box.id: box for box in picture(RICH).boxes}
    assert boxes["many"].title == "many: generate"
    assert boxes["many"].lines[-2:] == ("and 3 more", "3 samples")
    assert boxes["many"].lines[0].endswith("…")
    assert boxes["pairs"].lines == ("m", "keep 2 · pairwise")
    assert boxes["plain"].lines == ("fast", "T 0.5")
    assert boxes["mixture"].condition == "if candidates ≤ 2"
    assert boxes["improve"].title == "improve: at most 3 rounds, until best_score ≥ 9"
    assert boxes["again"].title == "again: 2 rounds"
    assert boxes["architecture"].title == "single"
    assert picture(preset("single")).boxes[0].title == "generate"


def test_mermaid_text_has_every_box_and_arrow() -> None:
    drawing = draw_mermaid(RICH)
    lines = drawing.splitlines()
    assert lines[0] == "flowchart TD"
    assert sum(line.strip().startswith("subgraph") for line in lines) == drawing.count("\n    end\n") == 4
    assert '-->|"if candidates ≤ 2"|' in drawing
    assert "until best_score ≥ 9" in drawing
    declared = set(re.findall(r"^\s*(?:subgraph )?(n\d+(?:_\d+)*)\s?\[", drawing, re.MULTILINE))
    used = set(re.findall(r"\b(n\d+(?:_\d+)*)\b", drawing))
    assert used == declared
    assert drawing.count("-->") == 3 + 1 + sum(len(node.after) for node in RICH.nodes) + 1 + 2


def test_mermaid_escapes_what_is_its_own() -> None:
    spec = parse([{"generate": {"model": 'a"b<c>#d'}}])
    assert "a#quot;b#lt;c#gt;#35;d" in draw_mermaid(spec)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_layout_keeps_boxes_apart_and_arrows_going_down(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 9))
    sizes = [Size(data.draw(st.floats(10, 300)), data.draw(st.floats(10, 90))) for _ in range(count)]
    arrows = [(tail, head) for head in range(count) for tail in range(head) if data.draw(st.booleans())]
    layout = lay_out(sizes, arrows)
    for i, j in itertools.combinations(range(count), 2):
        (x, y), (a, b) = layout.corners[i], layout.corners[j]
        level = y < b + sizes[j].height and b < y + sizes[i].height
        assert not level or x + sizes[i].width < a + 1e-6 or a + sizes[j].width < x + 1e-6
    for (tail, head), route in zip(arrows, layout.routes, strict=True):
        assert route[0].y == layout.corners[tail].y + sizes[tail].height
        assert route[-1].y == layout.corners[head].y
        assert all(start.y <= end.y for start, end in itertools.pairwise(route))
    assert min(corner.x for corner in layout.corners) >= -1e-6
    assert max(c.x + s.width for c, s in zip(layout.corners, sizes, strict=True)) <= layout.size.width + 1e-6
