from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from nodes.constraints import Constraint, violated

ADAPTER: TypeAdapter[Constraint] = TypeAdapter(Constraint)


@pytest.mark.parametrize(
    ("constraint", "kept", "broken"),
    [
        ({"sum": ["a", "b"], "equals": "c"}, {"a": 0.1, "b": "0.2", "c": 0.3}, {"a": 1, "b": 2, "c": 4}),
        ({"sum": ["a", "b"], "equals": 5, "tolerance": 0.5}, {"a": 2, "b": 2.5}, {"a": 2, "b": 2.4}),
        ({"less": [0, "a", "b"]}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
        ({"less": ["a", "b", "c"]}, {"a": 1, "c": 2}, {"a": 2, "c": 1}),
        ({"at_most": ["a", "b"]}, {"a": 2, "b": 2}, {"a": 3, "b": 2}),
        ({"one_of": ["a", ["EUR", 7]]}, {"a": "eur"}, {"a": "usd"}),
        ({"different": ["a", "b", "c"]}, {"a": 1, "b": 2}, {"a": 1, "c": "1"}),
        ({"same": ["a", "b", "c"]}, {"a": 1, "c": "1"}, {"a": 1, "b": 2}),
        ({"requires": ["a", "b"]}, {"b": 1}, {"a": 1}),
        ({"requires": [["a", True], ["b", 0]]}, {"a": "true", "b": 0.0}, {"a": True, "b": 1}),
        ({"requires": [["a", True], "b"]}, {"a": False}, {"a": True}),
        ({"less": ["a", 5]}, {}, {"a": "several"}),
        ({"sum": ["a"], "equals": "b"}, {"a": "several"}, {"a": "several", "b": 1}),
        ({"same": ["Net Amount", "b"]}, {"net_amount": 1, "b": 1}, {"net_amount": 1, "b": 2}),
    ],
)
def test_what_keeps_a_constraint_and_what_breaks_it(
    constraint: dict[str, object], kept: dict[str, object], broken: dict[str, object]
) -> None:
    read = ADAPTER.validate_python(constraint)
    assert violated([read], kept) == 0
    assert violated([read], broken) == 1
    assert violated([read], {}) == 0
    assert ADAPTER.validate_python(read.model_dump(mode="json")) == read
    assert hash(read) == hash(ADAPTER.validate_python(constraint))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"max": ["a", "b"]}, "a constraint is a mapping with one of `at_most`, `different`"),
        ("a < b", "a constraint is a mapping with one of"),
        ({"sum": ["a"]}, "equals"),
        ({"less": ["a"]}, "at least 2 items"),
        ({"less": ["a", True]}, "less"),
        ({"sum": ["a"], "equals": 1, "code": "x"}, "Extra inputs"),
    ],
)
def test_other_data_is_refused_in_plain_words(data: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ADAPTER.validate_python(data)
