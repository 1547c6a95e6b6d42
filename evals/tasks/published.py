"""Published benchmarks: GSM8K (test) and MATH-500, from a local file or from the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from db.errors import DataError
from evals.rows import read_rows
from evals.scorers.extracted import ComparedKind, ExtractedScorer
from evals.task import Item, Task
from evals.tasks.file import FileOptions, items_of_rows
from evals.tasks.registry import TaskOptions, task

__all__ = ["PublishedOptions", "make_gsm8k", "make_math500"]


class PublishedOptions(TaskOptions):
    """Options of the published benchmarks."""

    path: str | None = Field(
        None, description="local file with the columns question and gold; left out: COLONNADE_DATA, then the hub"
    )


class _Source(NamedTuple):
    name: str
    file: str
    """In the folder `tasks` of `COLONNADE_DATA`."""
    hub: str
    subset: str
    kind: ComparedKind
    question: str
    gold: str
    id: str | None


_GSM8K = _Source("gsm8k", "gsm8k_test.jsonl.gz", "openai/gsm8k", "main", "numeric", "question", "answer", None)
_MATH500 = _Source(
    "math500", "math500.jsonl.gz", "HuggingFaceH4/MATH-500", "default", "math", "problem", "answer", "unique_id"
)


@task("gsm8k", PublishedOptions)
def make_gsm8k(options: PublishedOptions, items: int | None, seed: int) -> Task:
    """Load GSM8K's 1,319 test questions (Cobbe et al., arXiv 2110.14168)."""
    return _load(_GSM8K, options, items, seed)


@task("math500", PublishedOptions)
def make_math500(options: PublishedOptions, items: int | None, seed: int) -> Task:
    """Load the 500 problems of MATH that Lightman et al. held out (arXiv 2305.20050)."""
    return _load(_MATH500, options, items, seed)


def _load(source: _Source, options: PublishedOptions, items: int | None, seed: int) -> Task:
    path = _local(source, options)
    if path is None:
        read = tuple(_hub_items(source))
    else:
        read = tuple(items_of_rows(path, read_rows(path), FileOptions(path=str(path))))
    made = Task(name=source.name, items=read, scorer=ExtractedScorer(kind=source.kind))
    return made if items is None else made.sample(items, seed)


def _local(source: _Source, options: PublishedOptions) -> Path | None:
    if options.path is not None:
        return Path(options.path).expanduser()
    folder = os.environ.get("COLONNADE_DATA")
    file = None if folder is None else Path(folder) / "tasks" / source.file
    return file if file is not None and file.is_file() else None


def _hub_items(source: _Source) -> Iterator[Item]:
    for number, row in enumerate(_hub_rows(source)):
        gold = str(row[source.gold])
        yield Item(
            id=f"{source.name}/{number}" if source.id is None else str(row[source.id]),
            question=str(row[source.question]),
            gold=gold.rpartition("####")[2].strip().replace(",", "") if source.kind == "numeric" else gold,
        )


def _hub_rows(source: _Source) -> Iterator[Mapping[str, Any]]:
    """Yield the hub's rows; raises `DataError` that says how to get the data where the hub cannot be used."""
    cure = (
        f"give a local file with the columns question and gold (--task-option path=FILE.jsonl), "
        f"or put {source.file} into the folder tasks of COLONNADE_DATA"
    )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"The data of the task {source.name!r} is not on this machine: pip install 'colonnade[hub]' to fetch "
            f"{source.hub} from the Hugging Face hub, {cure}."
        ) from error
    try:
        rows = load_dataset(source.hub, source.subset, split="test")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{source.hub} could not be fetched from the Hugging Face hub ({reason}); try again, or {cure}."
        ) from error
    yield from rows
