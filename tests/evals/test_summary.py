"""Sums over results: unknown stays unknown, graded scores get a bootstrap, runs that share nothing are refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from db.errors import ConfigError
from db.runs import ItemRecord
from evals import compare, summarise, to_frame, wilson
from evals.stats import bootstrap_mean


def record(number: int, score: float, cost: Decimal | None = Decimal("0.01")) -> ItemRecord:
    return ItemRecord(
        run_id="r",
        architecture_id="a",
        item_id=f"i{number}",
        score=score,
        correct=score > 0.5,
        calls_used=3,
        calls_paid=2,
        prompt_tokens_used=30,
        completion_tokens_used=9,
        prompt_tokens_paid=20,
        completion_tokens_paid=6,
        cost_used=cost,
        cost_paid=cost,
        latency_s=float(number),
        created_at=datetime.now(UTC),
    )


def test_the_sums() -> None:
    summary = summarise([record(i, float(i % 4 != 0)) for i in range(101)])
    assert (summary.items, summary.correct, summary.failed, summary.problems) == (101, 75, 0, {})
    assert summary.accuracy == pytest.approx(75 / 101)
    assert (summary.interval, summary.interval_method) == (wilson(75, 101), "wilson")
    assert (summary.calls_used, summary.calls_paid) == (303, 202)
    assert (summary.prompt_tokens_used, summary.completion_tokens_used) == (3030, 909)
    assert (summary.prompt_tokens_paid, summary.completion_tokens_paid) == (2020, 606)
    assert (summary.cost_used, summary.cost_paid) == (Decimal("1.01"), Decimal("1.01"))
    assert summary.cost_per_correct.value == Decimal("1.01") / 75
    assert (summary.latency_p50_s, summary.latency_p95_s) == (50, 95)


def test_one_unknown_price_makes_the_sum_unknown() -> None:
    summary = summarise([record(0, 1.0), record(1, 1.0, None)])
    assert (summary.cost_used, summary.cost_per_correct) == (None, (None, None))
    assert compare([record(0, 1.0)], [record(0, 1.0, None)]).cost_difference is None


def test_graded_scores_get_a_bootstrap() -> None:
    scores = [0.1, 0.9, 0.4, 1.0, 0.6]
    results = [record(i, score) for i, score in enumerate(scores)]
    summary = summarise(results)
    assert (summary.interval, summary.interval_method) == (bootstrap_mean(scores), "bootstrap")
    assert summary.accuracy == pytest.approx(0.6)
    assert compare(results, [replace(one, score=0.5) for one in results]).accuracy.method == "permutation"


def test_what_cannot_be_summed_or_compared() -> None:
    with pytest.raises(ConfigError, match="no results"):
        summarise([])
    with pytest.raises(ConfigError, match=r"share no item \(1 and 1 items\)"):
        compare([record(0, 1.0)], [record(1, 1.0)])
    with pytest.raises(ConfigError, match="holds an item twice"):
        compare([record(0, 1.0)] * 2, [record(0, 1.0)])


def test_a_table_without_pandas_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"pip install 'colonnade\[plot\]'"):
        to_frame([])


def test_problems_and_public_names_load_nothing_heavy() -> None:
    code = (
        "import sys, evals, evals.problems; assert not {'pydantic', 'sqlalchemy', 'numpy'} & set(sys.modules); "
        "[getattr(evals, name) for name in evals.__all__]; "
        "heavy = {'scipy', 'pandas', 'litellm', 'langgraph', 'sympy', 'math_verify', 'openai', 'datasets'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert list(evals.__all__) == sorted(evals.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import evals

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evals.nothing  # noqa: B018 - the access is the test
