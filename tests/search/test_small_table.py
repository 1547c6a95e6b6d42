"""The stored table of the space `small` is what its architectures do, and is read as what it is."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals import load_task
from flows.session import SessionSettings, open_session
from providers.embedded.model import model_folder
from providers.embedded.weights import weights_sha256
from search import load_space

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
# By name, since scripts are no package that a type checker could follow.
models: Any = importlib.import_module("search_models")
measure_small: Any = importlib.import_module("measure_small")

TASKS = ("arithmetic", "dates")


def stored(task: str) -> dict[str, Any]:
    with np.load(ROOT / "benchmarks" / "data" / f"small_{task}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("task", TASKS)
def test_the_file_holds_this_space_these_items_and_these_weights(task: str) -> None:
    table = stored(task)
    points = list(load_space("small").points())
    items, kept = len(table["paid"]), table["calls"].shape[1]
    assert list(table["architectures"]) == [point.key for point in points]
    assert str(table["task_digest"]) == load_task(task, items=items, seed=0).digest
    assert set(table["weights"]) == {f"{name}@{weights_sha256(model_folder(name))}" for name in measure_small.MODELS}
    assert table["right"].shape == (len(points), -(-items // 8))
    assert table["calls"].shape == table["dollars"].shape == (len(points), kept)
    assert 0 < kept <= items
    assert table["failed"].shape == (items,)
    assert not table["failed"].any()
    assert (table["paid"] > 0).all()
    assert (table["paid"][:kept] < table["calls"].sum(axis=0)).all()


@pytest.mark.parametrize("task", TASKS)
async def test_architectures_evaluated_anew_give_what_is_stored(task: str, tmp_path: Path) -> None:
    table, whole = stored(task), measure_small.ready(task, 2)
    places = np.flatnonzero(table["calls"][:, :2].max(axis=1) <= 6)[::9]
    some = measure_small.Ready(whole.task, *(tuple(all_[p] for p in places) for all_ in (whole.points, whole.compiled)))
    async with open_session(SessionSettings(database_url=f"sqlite:///{tmp_path}/c.db")) as session:
        block = await measure_small.measure(some, whole.task.items, session)
    assert len(places) > 3
    assert (block.right == np.unpackbits(table["right"][places], axis=1, count=2)).all()
    assert (block.calls == table["calls"][places, :2]).all()
    # Samples that were bought in several requests, each for another architecture, paid for the prompt as often.
    share = block.dollars / table["dollars"][places, :2]
    assert share.max() == 1
    assert share.min() > 0.9
    assert not block.failed.any()
    assert (block.paid < block.calls.sum(axis=0)).all()


def made(items: int) -> Any:
    rng = np.random.default_rng(items)
    return measure_small.Block(
        right=rng.random((438, items)) < 0.7,
        calls=rng.integers(1, 60, (438, items), dtype=np.uint16),
        dollars=rng.integers(1, 10**6, (438, items), dtype=np.uint32),
        paid=np.full(items, 170 + items, dtype=np.uint32),
        failed=np.zeros(items, dtype=np.uint16),
    )


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    blocks = [made(3), made(10)]
    assert measure_small.save(tmp_path / "made" / "small_dates.npz", "dates", blocks) == 13
    table = models.Measured(tmp_path / "made" / "small_dates.npz")
    assert table.dev_items == 6
    right = np.concatenate([block.right for block in blocks], axis=1)
    assert [table.scores(point).sum() for point in range(438)] == list(right.sum(axis=1))
    assert table.calls == pytest.approx(np.concatenate([block.calls for block in blocks], axis=1).mean(axis=1))
    assert table.dollars * 1e8 == pytest.approx(np.concatenate([b.dollars for b in blocks], axis=1).mean(axis=1))


def test_items_behind_those_of_a_file_keep_its_calls_and_dollars(tmp_path: Path) -> None:
    first, more, path = made(9), made(4), tmp_path / "small_dates.npz"
    measure_small.save(path, "dates", [first])
    assert measure_small.stored_items(None, "dates") == 0
    assert measure_small.stored_items(path, "dates") == 9
    assert measure_small.save(path, "dates", [more], onto=path) == 13
    with np.load(path) as file:
        assert (file["calls"] == first.calls).all()
        assert (file["dollars"] == first.dollars).all()
        assert list(file["paid"]) == [179] * 9 + [174] * 4
        assert len(file["failed"]) == 13
        assert str(file["task_digest"]) == load_task("dates", items=13, seed=0).digest
        assert str(file["command"]).count("; python ") == 1
    table = models.Measured(path)
    assert table.items == 13
    assert table.calls == pytest.approx(first.calls.mean(axis=1))
    right = np.concatenate([first.right, more.right], axis=1)
    assert [table.scores(point).sum() for point in range(438)] == list(right.sum(axis=1))


def test_items_of_another_task_are_not_put_behind(tmp_path: Path) -> None:
    measure_small.save(tmp_path / "small_dates.npz", "dates", [made(3)])
    with pytest.raises(ValueError, match=r"^small_dates\.npz differs in its task from what is measured now$"):
        measure_small.stored_items(tmp_path / "small_dates.npz", "arithmetic")


@pytest.mark.parametrize("task", TASKS)
def test_a_table_has_the_values_of_all_points_on_both_halves(task: str) -> None:
    table, file = models.small(task), stored(task)
    items = len(file["paid"])
    right = np.unpackbits(file["right"], axis=1, count=items)
    assert table.name == f"small_{task}"
    assert len(table.points) == len(table.domain) == len(table.dev) == len(table.held) == 438
    assert table.dev_items == items // 2
    for point in range(0, 438, 37):
        scores = table.scores(point)
        assert scores[: table.dev_items].mean() == pytest.approx(table.dev[point])
        assert scores[table.dev_items :].mean() == pytest.approx(table.held[point])
        assert scores.sum() == right[point].sum()
    assert set(table.domain.singles["generators"]) <= set(range(438))
    assert (table.dollars > 0).all()


def test_another_seed_draws_other_halves() -> None:
    first, second = models.small("dates"), models.small("dates", seed=1)
    assert (first.dev != second.dev).any()
    assert first.dev + first.held == pytest.approx(second.dev + second.held)


def test_a_table_of_another_space_is_refused(tmp_path: Path) -> None:
    table = stored("dates")
    np.savez_compressed(tmp_path / "small_other.npz", **{**table, "architectures": table["architectures"][::-1]})
    with pytest.raises(ValueError, match=r"not the one that small_other\.npz holds; measure it anew"):
        models.Measured(tmp_path / "small_other.npz")
