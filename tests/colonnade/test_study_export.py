"""A study for other programs: JSON, an Optuna storage, and optuna-dashboard on it."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from colonnade.study_export import export_json, export_optuna
from db.errors import ConfigError
from tests.colonnade.study_views import empty_view, example_view, hostile_view, running_view


def test_json_holds_all_of_it() -> None:
    view = example_view()
    data = json.loads(export_json(view))
    assert data["id"] == view.id
    assert len(data["trials"]) == len(view.trials)
    assert data["trials"][3]["values"].keys() == view.trials[3].values.keys()
    assert data["spent"]["calls_paid"] == view.spent.calls_paid
    assert isinstance(data["spent"]["dollars_paid"], float)
    assert json.loads(export_json(empty_view()))["steps"] == []


def test_a_study_is_read_by_optuna(tmp_path: Path) -> None:
    view = example_view()
    url = f"sqlite:///{tmp_path}/study.db"
    export_optuna(view, url, view.id)
    study = optuna.load_study(study_name=view.id, storage=url)
    assert len(study.trials) == len(view.trials)
    top = len(view.rungs) - 1
    for found, trial in zip(study.trials, view.trials, strict=True):
        assert found.number == trial.number
        assert found.state is (TrialState.COMPLETE if trial.rung == top else TrialState.PRUNED)
        assert found.user_attrs["architecture_id"] == trial.architecture_id
        assert found.params.keys() == trial.values.keys()
        assert sorted(found.intermediate_values) == list(view.rungs[: trial.rung + 1])
        if found.state is TrialState.COMPLETE:
            assert found.values == list(trial.objectives)
    assert study.best_value == max(trial.objectives[0] for trial in view.trials if trial.rung == top)
    assert study.user_attrs["study"] == view.id
    with pytest.raises(ConfigError, match="has a study"):
        export_optuna(view, url, view.id)


@pytest.mark.parametrize("make", [empty_view, hostile_view, running_view])
def test_any_study_can_be_exported(tmp_path: Path, make: Any) -> None:
    view = make()
    url = f"sqlite:///{tmp_path}/study.db"
    export_optuna(view, url, "x")
    assert len(optuna.load_study(study_name="x", storage=url).trials) == len(view.trials)


def test_a_value_may_be_none(tmp_path: Path) -> None:
    view = example_view()
    first, *others = view.trials
    url = f"sqlite:///{tmp_path}/study.db"
    none = replace(first, values={**first.values, "temperature": None})
    export_optuna(replace(view, trials=(none, *others)), url, "x")
    assert optuna.load_study(study_name="x", storage=url).trials[0].params["temperature"] is None


def test_a_storage_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened") as raised:
        export_optuna(example_view(), f"sqlite:///{tmp_path}/no/such/folder/x.db", "x")
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_optuna_dashboard_opens_it(tmp_path: Path) -> None:
    from optuna_dashboard import wsgi

    view = example_view()
    url = f"sqlite:///{tmp_path}/study.db"
    export_optuna(view, url, view.id)
    application = wsgi(optuna.storages.RDBStorage(url))
    listed = _get(application, "/api/studies")
    assert [one["study_name"] for one in listed["study_summaries"]] == [view.id]
    detail = _get(application, f"/api/studies/{listed['study_summaries'][0]['study_id']}")
    assert len(detail["trials"]) == len(view.trials)


def _get(application: Any, path: str) -> Any:
    heads: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "after=0",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.input": BytesIO(),
        "wsgi.errors": BytesIO(),
        "wsgi.url_scheme": "http",
    }
    body = b"".join(application(environ, lambda status, *_: heads.append(status)))
    assert heads[0].startswith("200"), heads
    return json.loads(body)
