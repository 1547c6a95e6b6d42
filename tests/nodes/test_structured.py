from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.structured import folded, normal, number_of, read_fields


def values(text: str) -> dict[str, object] | None:
    found = read_fields(text)
    return None if found is None else {key: entry.value for key, entry in found.items()}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"a": 1, "b": "x"}', {"a": 1, "b": "x"}),
        ('Sure:\n```json\n{"a": 1}\n```\nI hope that helps {smile}.', {"a": 1}),
        ('First {"a": 1}, no: {"a": 2}', {"a": 2}),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ('{"a": null, "b": "", "c": 0, "d": false}', {"c": 0, "d": False}),
        ("Net Amount: 100\n- **tax**: 19\nA note: see: below", {"net_amount": 100, "tax": 19, "a_note": "see: below"}),
        ("a: 1\na: 2", {"a": 2}),
        ('a: "x"\nb: true\nc: 007\nd: 1.50\ne: null', {"a": "x", "b": True, "c": "007", "d": "1.50"}),
        ('{"a": 1e999, "b": 1}', {"a": "1e999", "b": 1}),
        ("Just a sentence.", None),
        ("12: 30", None),
        ("{" * 300, None),
        ("{}", None),
        ("", None),
    ],
)
def test_fields_are_read(text: str, read: dict[str, object] | None) -> None:
    assert values(text) == read


@pytest.mark.parametrize(("levels", "is_read"), [(50, True), (60, False), (100_000, False)])
def test_a_value_nested_deeper_than_any_form_is_not_read(levels: int, is_read: bool) -> None:
    assert (values('{"a":' * levels + "1" + "}" * levels) is not None) == is_read


@pytest.mark.parametrize(
    ("one", "other"), [(12, "12"), (12, 12.0), ("1,200", 1200), ("Rome ", "rome"), (True, "True"), (0.5, "1/2")]
)
def test_equal_values_have_one_normal_form(one: object, other: object) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), [(1, True), ("5 cm", "5"), (0.1, 0.10001), ("a", "b"), ([1, 2], [2, 1])])
def test_different_values_do_not(one: object, other: object) -> None:
    assert normal(one) != normal(other)


def test_numbers_are_exact_and_names_folded() -> None:
    assert number_of(0.1) == Fraction(1, 10)
    assert number_of("$1,234.50") == Fraction(2469, 2)
    assert number_of(10**400) == 10**400
    assert number_of(float("inf")) is None
    assert number_of(True) is None
    assert number_of("many") is None
    assert folded(" Net-Amount_2 ") == folded("net amount 2") == "net_amount_2"


@given(st.text(alphabet='{}[]":,a1 \n\\'))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = read_fields(text)
    assert found is None or found
