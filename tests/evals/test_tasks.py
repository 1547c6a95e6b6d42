"""Tasks load from generators, files and the hub, or say in one sentence what is wrong and where."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import ConfigError, DataError
from evals import Item, Task, describe_tasks, load_task, parse_options, task_names
from evals.rows import read_rows
from evals.scorers import ExtractedScorer, JudgeScorer, RegexScorer
from evals.tasks import TaskOptions, task
from evals.tasks.registry import _entries


def write(path: Path, text: str) -> str:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


QUESTION = {"question": "How many?", "gold": "3"}


@pytest.mark.parametrize("name", ["arithmetic", "dates"])
def test_generated_tasks_grow_at_their_end_and_repeat(name: str) -> None:
    few, many = load_task(name, items=5), load_task(name, items=9)
    assert many.items[:5] == few.items
    assert len({item.id for item in many.items}) == 9
    assert few.answer_kind == "numeric"
    assert load_task(name, items=5).digest == few.digest != load_task(name, items=5, seed=1).digest
    assert {item.metadata["difficulty"] for item in few.items} == {"easy", "medium", "hard"}


def test_generated_tasks_have_a_dial_and_splits() -> None:
    hard = load_task("arithmetic", items=4, options={"difficulty": "hard", "split": "dev"})
    assert {(item.metadata["difficulty"], item.metadata["split"]) for item in hard.items} == {("hard", "dev")}
    assert len(load_task("dates").items) == 100


def test_the_published_tasks_load_from_the_data_folder(shared_data: Path) -> None:
    gsm8k, math500 = load_task("gsm8k"), load_task("math500", items=7, seed=2)
    assert (len(gsm8k.items), gsm8k.answer_kind) == (1319, "numeric")
    assert gsm8k.items[0].id == "gsm8k/0"
    assert gsm8k.items[0].prompt == gsm8k.items[0].question
    assert (len(math500.items), math500.answer_kind) == (7, "math")
    named = load_task("gsm8k", options={"path": str(shared_data / "tasks" / "gsm8k_test.jsonl.gz")})
    assert named.digest == gsm8k.digest


def test_a_published_task_without_data_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COLONNADE_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'colonnade\[hub\]'.*path=FILE.jsonl.*gsm8k_test.jsonl.gz"):
        load_task("gsm8k")
    monkeypatch.setenv("COLONNADE_DATA", str(tmp_path))
    with pytest.raises(DataError, match="HuggingFaceH4/MATH-500"):
        load_task("math500")


HUB = """
def load_dataset(name, subset, split):
    if name == "openai/gsm8k":
        assert (subset, split) == ("main", "test")
        return [{"question": "How many?", "answer": "1 + 2 = 3\\n#### 1,003"}]
    raise ConnectionError("no way to the hub\\nat all")
"""


def test_the_hub_is_asked_where_no_file_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "datasets.py").write_text(HUB)
    monkeypatch.delenv("COLONNADE_DATA", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    try:
        (item,) = load_task("gsm8k").items
        assert (item.id, item.question, item.gold) == ("gsm8k/0", "How many?", "1003")
        with pytest.raises(
            DataError, match=r"could not be fetched .*\(no way to the hub\); try again, or give a local"
        ):
            load_task("math500")
    finally:
        sys.modules.pop("datasets", None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", jsonl(QUESTION, {"question": "More?", "gold": 4, "level": 2})),
        ("a.jsonl.gz", jsonl(QUESTION, {"question": "More?", "gold": 4, "level": 2})),
        ("a.csv", 'question,gold,level\n"How many?",3,\nMore?,4,2\n'),
        ("a.csv.gz", "question,gold,level\nHow many?,3,\nMore?,4,2\n"),
        ("a.tsv", "question\tgold\tlevel\nHow many?\t3\t\nMore?\t4\t2\n"),
        ("a.jsonl", "\ufeff" + jsonl(QUESTION) + "\n\n" + jsonl({"question": "More?", "gold": 4, "level": 2})),
    ],
)
def test_files_of_every_kind(tmp_path: Path, name: str, text: str) -> None:
    made = load_task(write(tmp_path / name, text))
    assert [(item.question, item.gold) for item in made.items] == [("How many?", "3"), ("More?", "4")]
    assert made.items[1].metadata["level"] == "2"
    assert (made.name, made.answer_kind) == (name, "numeric")
    assert all(item.id.startswith("q-") for item in made.items)


def test_columns_are_named_by_options(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl({"task_id": "t1", "prompt": "2+2", "solution": "four"}))
    options = {"question": "prompt", "gold": "solution", "id": "task_id", "scorer": "exact"}
    made = load_task(path, options=options)
    assert made.items[0] == Item(id="t1", question="2+2", gold="four")
    assert made.scorer == ExtractedScorer(kind="exact")
    assert load_task("file", options={"path": path, **options}).digest == made.digest


def test_choices_are_lettered(tmp_path: Path) -> None:
    rows = [
        {"question": "Capital?", "gold": gold, "choices": ["Bonn", "Berlin", "Ulm"]} for gold in ("B", "Berlin", 1, "b")
    ]
    made = load_task(write(tmp_path / "a.jsonl", jsonl(*rows)))
    assert {item.gold for item in made.items} == {"B"}
    assert made.items[0].prompt == "Capital?\n(A) Bonn\n(B) Berlin\n(C) Ulm"
    assert made.answer_kind == "choice"
    csv = load_task(
        write(tmp_path / "a.csv", 'q,gold,opts\nx,C,a|b|c\ny,A,"[""u"", ""v""]"\n'),
        options={"question": "q", "choices": "opts"},
    )
    assert [item.choices for item in csv.items] == [("a", "b", "c"), ("u", "v")]


def test_auto_takes_the_stated_answer_where_gold_is_text(tmp_path: Path) -> None:
    made = load_task(write(tmp_path / "a.jsonl", jsonl(QUESTION, {"question": "Who?", "gold": "Ada"})))
    assert made.scorer == ExtractedScorer(kind="auto")


def test_scorers_of_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl({"question": "Write a poem."}))
    judged = load_task(path, options={"gold": "", "scorer": "judge", "judge_model": "strong", "judge_scale": "ten"})
    assert judged.scorer == JudgeScorer(model="strong", scale="ten")
    assert judged.scorer.models() == ("strong",)
    found = load_task(path, options={"gold": "", "scorer": "regex", "pattern": "^A"})
    assert found.scorer == RegexScorer(pattern="^A")


def test_equal_questions_without_ids_are_kept_apart(tmp_path: Path) -> None:
    made = load_task(write(tmp_path / "a.jsonl", jsonl(QUESTION, QUESTION, QUESTION)))
    ids = [item.id for item in made.items]
    assert ids[1:] == [f"{ids[0]}#2", f"{ids[0]}#3"]


BAD_FILES = [
    ("a.jsonl", "", {}, r"holds no rows \(line 1\)"),
    ("a.csv", "question,gold\n", {}, r"holds no rows"),
    ("a.jsonl", jsonl(QUESTION) + "{broken\n", {}, r"a.jsonl, line 2: not valid JSON"),
    ("a.jsonl", jsonl(QUESTION, [1]), {}, r"line 2: a JSON object with named columns"),
    (
        "a.jsonl",
        jsonl(QUESTION, {"question": "x"}),
        {},
        r"line 2: there is no column 'gold'; the columns are question\.",
    ),
    (
        "a.jsonl",
        jsonl({"quesion": "x", "gold": 1}),
        {},
        r"no column 'question'; .* quesion, gold.*Did you mean 'quesion'",
    ),
    ("a.csv", "question,gold\nx\n", {}, r"line 2: 1 fields where the header has 2"),
    ("a.csv", 'question,gold\nx,"1\n', {}, r"line 2: not valid CSV"),
    ("a.csv", "question,question\nx,1\n", {}, r"line 1: the header needs a different name"),
    ("a.jsonl", jsonl({"question": " ", "gold": 1}), {}, r"line 1: the column 'question' is empty"),
    ("a.jsonl", jsonl({"question": ["x"], "gold": 1}), {}, r"line 1: the column 'question' holds \[\"x\"\]"),
    (
        "a.jsonl",
        jsonl({**QUESTION, "id": 1}, {**QUESTION, "id": 1}),
        {},
        r"line 2: the id '1' stands on line 1 already",
    ),
    ("a.jsonl", jsonl({**QUESTION, "choices": ["a"]}), {}, r"must hold a list of 2 to 26"),
    ("a.jsonl", jsonl({**QUESTION, "choices": ["a", "b"]}), {}, r"the gold answer '3' is none of the 2 choices"),
    ("a.csv", "question,gold,choices\nx,A,[1\n", {}, r"is not a valid JSON list"),
    ("a.jsonl", jsonl(QUESTION), {"choices": "options"}, r"no column 'options'"),
    ("a.jsonl", jsonl({"question": "x", "gold": "y"}), {"scorer": "numeric"}, r"is no number \('y'\)"),
    ("a.txt", "x", {}, r"of an unknown kind"),
]


@pytest.mark.parametrize(("name", "text", "options", "message"), BAD_FILES)
def test_bad_files_are_named_with_their_line(
    tmp_path: Path, name: str, text: str, options: dict[str, str], message: str
) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(DataError, match=message):
        load_task(path, options=options)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"question": "\xff"}')
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(jsonl(QUESTION).encode())[:-6])
    for name, message in [
        ("a.jsonl", "not UTF-8"),
        ("b.jsonl.gz", "the gzip data is broken"),
        ("c.jsonl.gz", "the gzip data is broken"),
    ]:
        with pytest.raises(DataError, match=message):
            load_task(str(tmp_path / name))
    with pytest.raises(DataError, match=r"There is no data file .*a.json'; check the path. Did you mean 'a.jsonl'"):
        load_task(str(tmp_path / "a.json"))


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl(QUESTION) + "{broken\n")
    rows = read_rows(path)
    assert next(rows).line == 1
    with pytest.raises(DataError, match="line 2"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("arithmatic", {}, r"no task 'arithmatic' .* Did you mean 'arithmetic'\?"),
        ("arithmetic", {"dificulty": "hard"}, r"no option 'dificulty'. Did you mean 'difficulty'"),
        ("arithmetic", {"difficulty": "3"}, r"option 'difficulty': .*'mixed', not '3'"),
        ("file", {}, r"needs the option 'path'"),
    ],
)
def test_unknown_tasks_and_options(name: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(name, options=options)


def test_no_items_and_no_gold(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="items=0"):
        load_task("arithmetic", items=0)
    path = write(tmp_path / "a.jsonl", jsonl(QUESTION))
    with pytest.raises(ConfigError, match="has no gold answers, so the scorer 'numeric'"):
        load_task(path, options={"gold": "", "scorer": "numeric"})
    with pytest.raises(ConfigError, match="has no gold answers"):
        load_task(path, options={"gold": ""})


def test_parse_options() -> None:
    assert parse_options(["a=1", "b = x=y"]) == {"a": "1", "b": " x=y"}
    with pytest.raises(ConfigError, match="'a' has no value"):
        parse_options(["a"])
    with pytest.raises(ConfigError, match="given twice"):
        parse_options(["a=1", "a=2"])


def test_every_task_describes_its_options() -> None:
    described = describe_tasks()
    assert tuple(described) == task_names() == ("arithmetic", "dates", "file", "gsm8k", "math500")
    assert all(text for options in described.values() for text in options.values())


def test_a_task_of_ones_own() -> None:
    class Options(TaskOptions):
        word: str = "x"

    @task("own", Options)
    def make(options: Options, items: int | None, seed: int) -> Task:
        return Task(
            name="own",
            items=tuple(Item(id=str(i), question=options.word, gold="1") for i in range(items or 2)),
            scorer=ExtractedScorer(kind="numeric"),
        )

    try:
        assert load_task("own", items=3, options={"word": "y"}).items[2].question == "y"
        with pytest.raises(TypeError, match="takes Options"):
            _entries["own"].make(TaskOptions(), None, 0)
    finally:
        del _entries["own"]


def numbered(n: int) -> Task:
    items = tuple(Item(id=f"i{i}", question=str(i), gold=str(i)) for i in range(n))
    return Task(name="numbered", items=items, scorer=ExtractedScorer(kind="numeric"))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_a_larger_sample_extends_a_smaller_one(n: int, more: int, seed: int) -> None:
    whole = numbered(40)
    small, large = whole.sample(n, seed).items, whole.sample(n + more, seed).items
    assert large[: len(small)] == small
    assert len(small) == min(n, 40) == len(set(small))


@given(st.integers(0, 60), st.floats(0, 1), st.integers(0, 3))
def test_a_split_parts_the_items_and_each_keeps_its_side(n: int, share: float, seed: int) -> None:
    dev, held_out = numbered(n).split(share, seed)
    assert sorted(dev.items + held_out.items, key=lambda i: i.id) == sorted(numbered(n).items, key=lambda i: i.id)
    assert set(dev.items) <= set(numbered(n + 20).split(share, seed).dev.items)


def test_a_split_has_about_its_share() -> None:
    dev, held_out = numbered(2000).split(0.2)
    assert len(dev.items) == pytest.approx(400, abs=60)
    assert len(held_out.items) == 2000 - len(dev.items)
    with pytest.raises(ValueError, match=r"share=1\.5"):
        numbered(1).split(1.5)
