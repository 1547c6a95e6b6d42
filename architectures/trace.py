"""The trace of an outcome as JSON data, compact, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Final

from architectures.outcome import Outcome
from db.errors import DataError
from nodes.base import Candidate, Note, State

__all__ = ["TRACE_FORM", "outcome_from_json", "trace_json"]

TRACE_FORM: Final = 1
"""Version of the form of a stored trace."""

_BARE: Final = Candidate(id="", text="", node="", model=None)
_DEFAULTS: Final = tuple((field.name, getattr(_BARE, field.name)) for field in fields(Candidate) if field.compare)
"""Without the log probabilities of the tokens, which the call store keeps."""


def trace_json(outcome: Outcome) -> dict[str, Any]:
    """Return the whole trace as JSON data.

    A candidate that a node hands on unchanged stands once; a changed one leaves its text to the version before. So the
    size grows with what was said, not with the number of nodes that saw it.
    """
    versions: dict[int, int] = {}
    kept: list[Candidate] = []
    notes: dict[Note, int] = {}
    states = {name: _state_data(state, versions, kept, notes) for name, state in outcome.trace.items()}
    output = _state_data(outcome.state, versions, kept, notes)
    return {
        "form": TRACE_FORM,
        "question": outcome.state.question,
        "candidates": _version_data(kept),
        "notes": [list(note) for note in notes],
        "nodes": states,
        "output": output,
        "answer": outcome.state.candidates.index(outcome.candidate),
        "skipped": list(outcome.skipped),
        "failed": dict(outcome.failed),
        "seconds": {name: round(seconds, 6) for name, seconds in outcome.seconds.items()},
    }


def outcome_from_json(data: Mapping[str, Any]) -> Outcome:
    """Return the outcome whose trace this is; raises `DataError` for data of another form."""
    if data.get("form") != TRACE_FORM:
        raise DataError(f"A trace of form {data.get('form')!r} cannot be read; this version reads form {TRACE_FORM}.")
    candidates = _versions(data["candidates"])
    notes = [Note(*note) for note in data["notes"]]
    question = data["question"]
    state = _state(data["output"], question, candidates, notes)
    return Outcome(
        candidate=state.candidates[data["answer"]],
        state=state,
        trace={name: _state(item, question, candidates, notes) for name, item in data["nodes"].items()},
        skipped=tuple(data["skipped"]),
        failed=data["failed"],
        seconds=data["seconds"],
    )


def _state_data(
    state: State, versions: dict[int, int], kept: list[Candidate], notes: dict[Note, int]
) -> dict[str, Any]:
    places = []
    for candidate in state.candidates:
        # By identity: comparing would read every text again. `kept` holds each object, so no id is given twice.
        if id(candidate) not in versions:
            versions[id(candidate)] = len(kept)
            kept.append(candidate)
        places.append(versions[id(candidate)])
    data: dict[str, Any] = {"candidates": places}
    if state.tests:
        data["tests"] = list(state.tests)
    if state.measures:
        data["measures"] = dict(state.measures)
    if state.notes:
        data["notes"] = [notes.setdefault(note, len(notes)) for note in state.notes]
    return data


def _version_data(kept: Sequence[Candidate]) -> list[dict[str, Any]]:
    texts: dict[str, str] = {}
    rows = []
    for candidate in kept:
        row = {name: _plain(value) for name, default in _DEFAULTS if (value := getattr(candidate, name)) != default}
        if texts.get(candidate.id) == candidate.text:
            row.pop("text", None)
        else:
            row["text"] = texts[candidate.id] = candidate.text
        rows.append({"id": candidate.id, "node": candidate.node, "model": candidate.model, **row})
    return rows


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _versions(rows: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    texts: dict[str, str] = {}
    made = []
    for row in rows:
        values = dict(row)
        texts[row["id"]] = values.setdefault("text", texts.get(row["id"], ""))
        for name in ("parents", "tests_passed"):
            values[name] = tuple(values.get(name, ()))
        for name in ("scores", "sources"):
            values[name] = MappingProxyType(values.get(name, {}))
        made.append(Candidate(**values))
    return made


def _state(data: Mapping[str, Any], question: str, candidates: Sequence[Candidate], notes: Sequence[Note]) -> State:
    return State(
        question=question,
        candidates=tuple(candidates[place] for place in data["candidates"]),
        tests=tuple(data.get("tests", ())),
        measures=MappingProxyType(data.get("measures", {})),
        notes=tuple(notes[place] for place in data.get("notes", ())),
    )
