"""Any JSONL or CSV file as a task; options name the columns of question, gold answer, id and choices."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from db.errors import ConfigError, DataError, did_you_mean
from evals.rows import Row, read_rows
from evals.scorers import ScorerName, make_scorer
from evals.task import Item, Scorer, Task, question_id
from evals.tasks.registry import TaskOptions, task
from nodes.answers import extract
from nodes.numerals import only_number

__all__ = ["FileOptions", "items_of_rows", "make_file"]

_OPTIONAL = {"id": "id", "choices": "choices"}
_LONGEST_METADATA = 200


class FileOptions(TaskOptions):
    """Options of a task that is a data file."""

    path: str = Field(description="the file: .jsonl, .csv or .tsv, plain or .gz")
    question: str = Field("question", description="column of the question")
    gold: str = Field("gold", description="column of the right answer; empty for none (judge only)")
    id: str | None = Field(
        None, description="column of the id; left out: `id` if there is one, else a hash; empty: a hash"
    )
    choices: str | None = Field(None, description="column of the choices: a JSON list, or texts parted by |")
    scorer: Literal[ScorerName, "auto"] = Field("auto", description="auto, or the name of a scorer")
    pattern: str | None = Field(None, description="regular expression of the scorer regex")
    judge_model: str | None = Field(None, description="model of the scorer judge")
    judge_scale: Literal["binary", "ten"] = Field("binary", description="binary, or grades from 1 to ten")


@task("file", FileOptions)
def make_file(options: FileOptions, items: int | None, seed: int) -> Task:
    """Read the file; `auto` scores choices as letters, numbers as numbers, else the stated answer as text."""
    path = Path(options.path).expanduser()
    read = tuple(items_of_rows(path, read_rows(path), options))
    scorer = _scorer(options, read)
    made = Task(name=path.name, items=read, scorer=scorer)
    return made if items is None else made.sample(items, seed)


def items_of_rows(path: Path, rows: Iterable[Row], options: FileOptions) -> Iterable[Item]:
    """Yield the items of a file.

    Two rows with one id are an error; of rows without ids that ask the same, the second is called `…#2`. Raises
    `DataError` with the line for a column that is absent and for a value that cannot be used.
    """
    lines: dict[str, list[int]] = {}
    for row in rows:
        item = _item(path, row, options)
        same = lines.setdefault(item.id, [])
        same.append(row.line)
        if len(same) > 1 and _id_column(row.values, options) is not None:
            raise DataError(
                f"{path}, line {row.line}: the id {item.id!r} stands on line {same[0]} already; "
                "make ids unique, or set the option id to nothing (id=)."
            )
        yield item if len(same) == 1 else replace(item, id=f"{item.id}#{len(same)}")


def _item(path: Path, row: Row, options: FileOptions) -> Item:
    place = f"{path}, line {row.line}"
    question = _text(place, row.values, options.question, "question")
    gold = _text(place, row.values, options.gold, "gold") if options.gold else ""
    choices = _choices(place, row.values, options)
    id_column = _id_column(row.values, options)
    own = None if id_column is None else _text(place, row.values, id_column, "id")
    used = {options.question, options.gold, id_column, options.choices or "choices"}
    return Item(
        id=own or question_id(question, choices),
        question=question,
        gold=_letter(place, gold, choices) if choices else gold,
        choices=choices,
        metadata={
            key: str(value)
            for key, value in row.values.items()
            if key not in used and isinstance(value, str | int | float | bool) and len(str(value)) <= _LONGEST_METADATA
        },
    )


def _id_column(values: Mapping[str, object], options: FileOptions) -> str | None:
    if options.id is not None:
        return options.id or None
    return "id" if "id" in values else None


def _text(place: str, values: Mapping[str, object], column: str, option: str) -> str:
    value = _value(place, values, column, option)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(
            f"{place}: the column {column!r} holds {json.dumps(value)[:40]} where a text or number is needed."
        )
    if not str(value).strip():
        raise DataError(f"{place}: the column {column!r} is empty.")
    return str(value)


def _value(place: str, values: Mapping[str, object], column: str, option: str) -> object:
    if column not in values:
        near = did_you_mean(column, values)
        raise DataError(
            f"{place}: there is no column {column!r}; the columns are {', '.join(values)}. "
            f"Name the right one with the option {option} ({option}=COLUMN).{near if 'mean' in near else ''}"
        )
    return values[column]


def _choices(place: str, values: Mapping[str, object], options: FileOptions) -> tuple[str, ...]:
    if options.choices is None and "choices" not in values:
        return ()
    column = options.choices or "choices"
    value = _value(place, values, column, "choices")
    if isinstance(value, str):
        value = _split(place, column, value)
    if not isinstance(value, list) or not 2 <= len(value) <= len(string.ascii_uppercase):
        raise DataError(f"{place}: the column {column!r} must hold a list of 2 to 26 choices.")
    return tuple(str(choice).strip() for choice in value)


def _split(place: str, column: str, value: str) -> object:
    if not value.lstrip().startswith("["):
        return value.split("|")
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: the column {column!r} is not a valid JSON list ({error.msg}).") from error


def _letter(place: str, gold: str, choices: tuple[str, ...]) -> str:
    """Turn a gold answer into a letter: it is one, or the text of a choice, or the number of one counted from 0."""
    letters = string.ascii_uppercase[: len(choices)]
    if gold.strip() in choices:
        return letters[choices.index(gold.strip())]
    if gold.strip().upper() in letters and len(gold.strip()) == 1:
        return gold.strip().upper()
    if gold.strip().isdecimal() and int(gold) < len(choices):
        return letters[int(gold)]
    raise DataError(
        f"{place}: the gold answer {gold[:40]!r} is none of the {len(choices)} choices, nor a letter of one."
    )


def _scorer(options: FileOptions, items: tuple[Item, ...]) -> Scorer:
    name = options.scorer
    if name == "auto" and options.gold:
        if all(item.choices for item in items):
            name = "choice"
        elif all(only_number(item.gold) is not None for item in items):
            name = "numeric"
        else:
            name = "stated"
    if not options.gold and name not in ("judge", "regex"):
        raise ConfigError(
            f"The task {options.path!r} has no gold answers, so the scorer {name!r} has nothing to compare with; "
            "name their column (gold=COLUMN), or choose scorer=judge."
        )
    if name == "numeric":
        _check_numbers(options, items)
    return make_scorer(name, pattern=options.pattern, model=options.judge_model, scale=options.judge_scale)


def _check_numbers(options: FileOptions, items: tuple[Item, ...]) -> None:
    for item in items:
        if extract(item.gold, "numeric") is None:
            raise DataError(
                f"{options.path}: the gold answer of item {item.id!r} is no number ({item.gold[:40]!r}); "
                "choose another scorer with the option scorer."
            )
