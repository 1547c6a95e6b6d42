"""The report of a study: what it shows as data, the page in a real browser, and the files for papers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from colonnade.report import (
    draw_pictures,
    held_out,
    history,
    importances,
    parallel_coordinates,
    quality_cost,
    rung_survival,
    winner_svg,
    write_report,
)
from db.errors import ConfigError
from flows.study_view import StudyView
from tests.colonnade.chromium import Page, chromium_page
from tests.colonnade.study_views import HOSTILE, empty_view, example_view, hostile_view, running_view


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab of Debian's chromium."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("needs Debian's chromium")
    with chromium_page(binary, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def opened(page: Page, view: StudyView, folder: Path) -> str:
    """Write a report, open it, and see that nothing was wrong and nothing was asked of a network."""
    file = folder / "report.html"
    write_report(view, file)
    page.open(file.as_uri())
    page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 200)))")
    assert page.complaints() == []
    asked = [url for url in page.requests() if not url.startswith(("data:", "blob:"))]
    assert asked == [file.as_uri()]
    return str(page.run("document.body.innerText"))


@pytest.mark.needs_chromium
@pytest.mark.xdist_group("chromium")
class TestInTheBrowser:
    def test_plots_are_drawn(self, page: Page, tmp_path: Path) -> None:
        view = example_view()
        text = opened(page, view, tmp_path)
        assert view.ending is not None
        assert view.ending.sentence in text
        for name in ("history", "front", "importances", "rungs"):
            assert page.run(f"document.querySelectorAll('#{name} svg.main-svg').length") > 0, name
        # As many points as there were steps, as many lines as there are trials with a value.
        assert page.run("document.querySelectorAll('#history .points path.point').length") >= len(view.steps)
        measured = sum(bool(trial.objectives) for trial in view.trials)
        assert page.run("document.querySelectorAll('#parallel path').length") == measured
        assert page.run("document.querySelectorAll('#winner svg').length") == 1
        assert page.run("document.querySelectorAll('#trials tbody tr').length") == len(view.trials)

    def test_the_table_is_sorted_by_a_click(self, page: Page, tmp_path: Path) -> None:
        opened(page, example_view(), tmp_path)
        column = "[...document.querySelectorAll('#trials tbody tr')].map((row) => Number(row.cells[3].dataset.value))"
        page.run("document.querySelectorAll('#trials th')[3].querySelector('button').click()")
        down = page.run(column)
        assert down == sorted(down, reverse=True)
        page.run("document.querySelectorAll('#trials th')[3].querySelector('button').click()")
        assert page.run(column) == sorted(down)
        assert down != page.run(column)

    def test_names_are_text_and_nothing_else(self, page: Page, tmp_path: Path) -> None:
        view = hostile_view()
        text = opened(page, view, tmp_path)
        assert page.run("document.title") != "owned"
        assert page.run("document.querySelectorAll('img').length") == 0
        assert HOSTILE.split("<")[0] in text
        assert "49" not in page.run("document.querySelector('h1').innerText")

    @pytest.mark.parametrize("make", [empty_view, running_view])
    def test_a_study_without_an_end_can_be_shown(self, page: Page, tmp_path: Path, make: object) -> None:
        assert callable(make)
        view = make()
        text = opened(page, view, tmp_path)
        assert view.id in text
        assert ("Nothing was measured yet" in text) == (not view.steps)


def test_the_file_asks_for_nothing(tmp_path: Path) -> None:
    write_report(example_view(), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?:", text)


def test_what_the_pictures_show_is_what_was_measured() -> None:
    view = example_view()
    steps = history(view)
    assert [point.items for point in steps] == [step.items for step in view.steps]
    assert [point.best for point in steps] == [step.leader_value for step in view.steps]
    assert {point.trial for point in quality_cost(view).points if point.on_front} == {
        trial.number for trial in view.trials if trial.on_front
    }
    rungs = rung_survival(view)
    assert [one.items for one in rungs] == list(view.rungs)
    assert rungs[0].reached == sum(trial.rung >= 0 for trial in view.trials)
    for one in rungs:
        assert one.reached == one.dropped + one.grown + one.running + one.standing + one.waiting
    lines = parallel_coordinates(view).lines
    assert len(lines) == sum(bool(trial.objectives) for trial in view.trials)
    assert view.ending is not None
    table = held_out(view)
    assert table is not None
    assert [row.name for row in table] == [one.name for one in view.ending.contenders]
    assert [row.difference for row in table[1:]] == [one.difference for one in view.ending.against]
    svg = winner_svg(view)
    assert svg is not None
    assert svg.lstrip().startswith("<svg")


def test_importances_are_shares() -> None:
    found = importances(example_view())
    known = [one for one in found if one.share is not None]
    assert known
    for one in known:
        assert one.share is not None
        assert one.low is not None
        assert one.high is not None
        assert 0 <= one.low <= one.share <= one.high <= 1
    assert [one.share for one in known] == sorted((one.share or 0 for one in known), reverse=True)


def test_pictures_for_papers(tmp_path: Path) -> None:
    files = draw_pictures(example_view(), tmp_path / "a")
    assert {file.stem for file in files} >= {
        "front",
        "held-out",
        "history",
        "importances",
        "parallel",
        "rungs",
        "winner",
    }
    again = draw_pictures(example_view(), tmp_path / "b")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    draw_pictures(hostile_view(), tmp_path / "c")
    draw_pictures(running_view(), tmp_path / "d", ".png")
    with pytest.raises(ConfigError, match="There is nothing to draw"):
        draw_pictures(empty_view(), tmp_path / "e")
    with pytest.raises(ConfigError, match=r"\.svg, \.pdf or \.png"):
        draw_pictures(example_view(), tmp_path / "f", ".gif")
