"""Rows of all kinds of files, good and bad, and templates from columns to questions."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import pytest

from db.errors import ConfigError, DataError
from flows.batch_input import InputRow, inspect_input, need_pyarrow, read_input
from flows.batch_template import Template, question_template


def rows(path: Path, data: str | bytes) -> list[InputRow]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_input(path))


def test_json_lines_keep_their_numbers_around_bad_ones(tmp_path: Path) -> None:
    data = '\ufeff{"a": 1}\n\n{broken\n[1]\n{}\n{"a": "ü"}\n'.encode() + b'{"a": "\xff"}\n' + b"[" * 100_000 + b"\n"
    data += b"1" * 5_000 + b"\n"
    found = rows(tmp_path / "rows.jsonl", data)
    assert [(row.number, row.line) for row in found] == [(1, 1), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9)]
    assert [row.values for row in found if not row.reason] == [{"a": 1}, {"a": "ü"}]
    reasons = [row.reason for row in found if row.reason]
    assert reasons[0] == "line 3: not valid JSON (Expecting property name enclosed in double quotes, column 2)"
    assert reasons[1] == "line 4: a JSON object with named columns is needed"
    assert "no columns" in reasons[2]
    assert reasons[3].startswith("line 7: the text is not UTF-8")
    assert "line 8: not valid JSON (nested too deep)" in reasons[4]
    assert reasons[5] == "line 9: not valid JSON (a number of too many digits)"


def test_csv_with_ragged_broken_and_foreign_rows(tmp_path: Path) -> None:
    data = b'a,b\n1,"two\nlines"\n3\n4,"x"y\n' + b"5,\xff\n\n6,seven\n"
    found = rows(tmp_path / "rows.csv", data)
    assert [row.values for row in found if not row.reason] == [{"a": "1", "b": "two\nlines"}, {"a": "6", "b": "seven"}]
    assert [row.line for row in found] == [2, 4, 5, 6, 8]
    reasons = [row.reason for row in found if row.reason]
    assert reasons[0] == "line 4: 1 fields where the header has 2 columns"
    assert reasons[1].startswith("line 5: not valid CSV")
    assert reasons[2] == "line 6: the text is not UTF-8"
    assert rows(tmp_path / "rows.tsv", "a\tb\n1\t2\n")[0].values == {"a": "1", "b": "2"}


def test_compressed_rows(tmp_path: Path) -> None:
    assert rows(tmp_path / "rows.csv.gz", gzip.compress(b"a\n1\n"))[0].values == {"a": "1"}
    with pytest.raises(DataError, match="the gzip data is broken"):
        rows(tmp_path / "rows.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999)[:30])


def test_parquet_is_read_by_groups(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    table = pa.table({"k": list(range(2_500)), "day": [date(2026, 1, 1)] * 2_500})
    pq.write_table(table, path, row_group_size=700)
    found = list(read_input(path))
    assert [row.number for row in found] == list(range(1, 2_501))
    assert found[-1].values == {"k": 2_499, "day": date(2026, 1, 1)}
    with pytest.raises(DataError, match="no readable Parquet"):
        rows(tmp_path / "broken.parquet", "no parquet")
    data = bytearray(path.read_bytes())
    data[100:2_000] = bytes(1_900)
    with pytest.raises(DataError, match="no readable Parquet"):
        rows(path, bytes(data))
    pq.write_table(pa.table([[1], [2]], names=["k", "k"]), path)
    with pytest.raises(DataError, match=r"a different name is needed for each column \(k, k\)"):
        list(read_input(path))


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'colonnade\[parquet\]'"):
        need_pyarrow()


def test_what_a_file_tells(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows(path, '{broken\n{"a": 1, "b": 2}\n{"c": 1}\n')
    first = inspect_input(path)
    assert (first.rows, first.columns) == (3, ("a", "b"))
    rows(path, '{"a": 2}\n')
    assert inspect_input(path).digest != first.digest


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("rows.txt", "x", "of an unknown kind; name it .jsonl"),
        ("rows.jsonl", "\n", "holds no rows"),
        ("rows.csv", "a,a\n1,2\n", "line 1: the header needs a different name"),
        ("rows.csv", '"a"b\n', "line 1: the header is not valid CSV"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, data: str, sentence: str) -> None:
    path = tmp_path / name
    path.write_text(data)
    with pytest.raises(DataError, match=sentence):
        inspect_input(path)
    with pytest.raises(DataError, match=r"There is no data file .* Did you mean 'rows"):
        inspect_input(tmp_path / f"rrows{path.suffix}")
    (tmp_path / f"rrows{path.suffix}").mkdir()
    with pytest.raises(DataError, match=r"There is no data file .* Did you mean 'rows"):
        inspect_input(tmp_path / f"rrows{path.suffix}")


def test_a_format_template() -> None:
    template = Template("{a} and {b:.1f} of {a}: {list} {none}|{yes}")
    assert template.columns == ("a", "b", "list", "none", "yes")
    values = {"a": "ü", "b": 1.25, "list": [1, "x"], "none": None, "yes": True, "more": 0}
    assert template.fill(values) == 'ü and 1.2 of ü: [1, "x"] |true'


def test_a_jinja_template() -> None:
    template = Template("{% for one in things %}{{ one }} {% endfor %}{{ name }}{{ empty }}")
    assert set(template.columns) == {"things", "name", "empty"}
    assert template.fill({"things": [1, 2], "name": "x", "empty": None}) == "1 2 x"
    with pytest.raises(DataError, match="cannot be filled"):
        Template("{{ 1 // a }}").fill({"a": 0})
    with pytest.raises(DataError, match="cannot be filled"):
        Template("{{ a.__class__.__mro__ }}").fill({"a": 0})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("plain", "names no column"),
        ("{a", "cannot be read"),
        ("{} is", "braces without a column's name"),
        ("{a:{b}}", "braces without a column's name"),
        ("{% if %}", r"cannot be read \(line 1"),
    ],
)
def test_templates_that_cannot_be(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Template(text)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"questin": "x"},
            r"the column 'question', which is not there; the columns are questin. Did you mean 'questin'",
        ),
        ({"question": "  "}, "the question is empty"),
        ({"question": "\ud800"}, "cannot be filled"),
    ],
)
def test_rows_without_a_question(values: dict[str, str], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        question_template(None, None).fill(values)


def test_the_column_that_is_asked() -> None:
    assert question_template(None, "text of it").fill({"text of it": 5}) == "5"
    with pytest.raises(ConfigError, match="not both"):
        question_template("{a}", "a")
    with pytest.raises(ConfigError, match="rename it"):
        question_template(None, "a{b")
