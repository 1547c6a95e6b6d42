"""A study for other programs: as JSON, and as a study of Optuna."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from colonnade.report.values import level, levels, parameters
from db.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import FrozenTrial

    from flows.study_view import StudyView, TrialView

__all__ = ["export_json", "export_optuna"]


def export_json(view: StudyView) -> str:
    """Return all of a study as one JSON object, its keys the fields of `StudyView`; dollars are numbers."""
    import orjson

    return orjson.dumps(view.record(), default=_plain, option=orjson.OPT_INDENT_2).decode()


def export_optuna(view: StudyView, storage_url: str, study_name: str) -> None:
    """Write a study to an Optuna storage, such as `sqlite:///study.db`, under a name that is new there.

    A trial that reached the top rung is COMPLETE, one that runs is RUNNING, any other PRUNED. Its values are the
    objectives, of which more is always better; its intermediate values are the first objective after each rung, by the
    items of the rung. A list of models is one category, joined by plus signs. Raises `ConfigError` without optuna, for
    a storage that cannot be opened, and for a name that is taken.
    """
    try:
        from optuna.trial import FrozenTrial  # noqa: F401
    except ImportError as error:
        raise ConfigError("An export to Optuna needs optuna: pip install 'colonnade[search]'.") from error
    with _quiet_optuna():
        study = _new_study(view, storage_url, study_name)
        for key, value in _about_study(view).items():
            study.set_user_attr(key, value)
        choices = _distributions(view)
        study.add_trials(_trial(view, trial, choices) for trial in view.trials)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna from announcing each study, and from calling the names of objectives an experiment."""
    from optuna.exceptions import ExperimentalWarning

    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*set_metric_names is experimental", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(before)


def _new_study(view: StudyView, storage_url: str, study_name: str) -> Study:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    directions = [optuna.study.StudyDirection.MAXIMIZE] * len(view.objectives)
    try:
        study = optuna.create_study(storage=storage_url, study_name=study_name, directions=directions)
    except optuna.exceptions.DuplicatedStudyError:
        raise ConfigError(
            f"{storage_url} has a study {study_name!r} already: choose another storage, or delete it with "
            f"'optuna delete-study --storage {storage_url} --study-name {study_name}'."
        ) from None
    except (ImportError, RuntimeError, ValueError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
        raise ConfigError(f"{storage_url}: this Optuna storage cannot be opened: {reason}.") from error
    study.set_metric_names(list(view.objectives))
    return study


def _distributions(view: StudyView) -> dict[str, CategoricalDistribution]:
    """Return what each parameter can be, as far as it was tried."""
    from optuna.distributions import CategoricalDistribution

    found = {}
    for name in parameters(view):
        having = [trial for trial in view.trials if name in trial.values]
        by_text = {level(trial, name): _category(trial.values[name]) for trial in having}
        found[name] = CategoricalDistribution([by_text[text] for text in levels(having, name)])
    return found


def _trial(view: StudyView, trial: TrialView, choices: Mapping[str, CategoricalDistribution]) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    top = len(view.rungs) - 1
    ends = TrialState.COMPLETE if trial.rung == top else TrialState.PRUNED
    return create_trial(
        state=TrialState.RUNNING if trial.state == "running" else ends,
        values=list(trial.objectives) or None,
        params={name: _category(value) for name, value in trial.values.items()},
        distributions={name: choices[name] for name in trial.values},
        intermediate_values={view.rungs[step.rung]: step.value for step in view.steps if step.trial == trial.number},
        user_attrs=_about_trial(trial),
    )


def _about_study(view: StudyView) -> dict[str, object]:
    return {
        "study": view.id,
        "name": view.name,
        "space": view.space,
        "task": view.task,
        "sampler": view.sampler,
        "status": view.status,
        "seed": view.seed,
        "leader": view.leader,
        "calls_used": view.spent.calls_used,
        "calls_paid": view.spent.calls_paid,
        "dollars_paid": None if view.spent.dollars_paid is None else float(view.spent.dollars_paid),
        "conclusion": None if view.ending is None else view.ending.sentence,
    }


def _about_trial(trial: TrialView) -> dict[str, object]:
    return {
        "architecture_id": trial.architecture_id,
        "label": trial.label,
        "state": trial.state,
        "items": trial.items,
        "quality": trial.quality,
        "interval": trial.interval,
        "calls": trial.calls,
        "dollars": trial.dollars,
        "seconds": trial.seconds,
        "on_front": trial.on_front,
    }


def _category(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float):
        return value
    return "+".join(map(str, value))  # type: ignore[call-overload]


def _plain(value: Any) -> object:
    return float(value) if isinstance(value, Decimal) else list(value)
