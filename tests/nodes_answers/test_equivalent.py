"""Answers are compared exactly, and a comparison that hangs does not stop a run."""

from __future__ import annotations

import json
import os
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.answers import equivalent, extract
from nodes.base import AnswerKind
from nodes.math_worker import verdicts
from nodes.numerals import number_value
from nodes.symbolic import _process, same_expression

NUMBERS = st.fractions(max_denominator=1000)
SLOW_S = 120.0
"""A worker that has just been started imports for seconds on a busy machine."""


@pytest.fixture(autouse=True, scope="module")
def _started() -> None:
    assert same_expression("a+b", "b+a", SLOW_S) is True


def test_archon_defect_truth_3_and_answer_13_differ() -> None:
    assert not equivalent("13", "3", "numeric")
    assert not equivalent("3", "13", "numeric")


@pytest.mark.parametrize("kind", ["numeric", "math", "boxed", "auto"])
def test_archon_defect_one_half_and_one_third_differ(kind: AnswerKind) -> None:
    assert not equivalent("1/2", "1/3", kind)
    assert not equivalent("\\frac{1}{2}", "\\frac{1}{3}", kind)


@pytest.mark.parametrize(
    ("a", "b", "kind", "same"),
    [
        ("1.50", "1.5", "numeric", True),
        ("1,000", "1000", "numeric", True),
        ("$1/2", "0.50", "numeric", True),
        ("0.333", "1/3", "numeric", False),
        ("5%", "5", "numeric", True),
        ("-3", "3", "numeric", False),
        ("many", "Many", "numeric", True),
        ("many", "3", "numeric", False),
        ("(C)", "C", "choice", True),
        ("A", "B", "choice", False),
        (" a", "a ", "exact", True),
        ("a", "A", "exact", False),
        ("The  Hague", "the hague.", "text", True),
        ("Yes", "No", "auto", False),
        ("42.0", "42", "auto", True),
    ],
)
def test_equivalent(a: str, b: str, kind: AnswerKind, same: bool) -> None:
    assert equivalent(a, b, kind) is same
    assert equivalent(b, a, kind) is same


@given(NUMBERS, NUMBERS)
def test_numbers_are_equal_as_fractions_are(p: Fraction, q: Fraction) -> None:
    assert equivalent(str(p), str(q), "numeric") is (p == q)
    assert equivalent(str(p), str(q), "math") is (p == q)


@given(NUMBERS)
def test_a_normal_form_keeps_the_value(p: Fraction) -> None:
    normal = extract(f"Answer: {p}", "numeric")
    assert normal is not None
    assert number_value(normal) == p


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("x+y", "y + x", True),
        ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt3}", True),
        ("(1,2)", "(2,1)", False),
        ("\\{1,2\\}", "\\{2,1\\}", True),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\pi/2)", True),
        ("p - q", "q - p", False),
        ("2\\sqrt{3}", "\\sqrt{12}", True),
        ("", "x", False),
    ],
)
def test_expressions(a: str, b: str, same: bool) -> None:
    assert same_expression(a, b, SLOW_S) is same


def test_what_cannot_be_read_is_not_equal() -> None:
    assert not equivalent("\\frac{", "\\begin{pmatrix} 1", "math")


def test_a_comparison_that_hangs_ends_and_the_next_one_works() -> None:
    begin = time.perf_counter()
    assert same_expression("9^{9^{9^{9}}}+x", "x", timeout_s=1.0) is None
    assert time.perf_counter() - begin < 200
    assert not equivalent("x" * 2000, "y", "math")
    assert same_expression("x+z", "z+x", SLOW_S) is True


def test_what_the_worker_says() -> None:
    asked = [("x+y", "y+x"), ("x", "y"), ("\\frac{", "x"), ("", "x")]
    lines = [json.dumps({"a": a, "b": b, "timeout_s": 20}) for a, b in asked]
    assert list(verdicts(lines)) == [True, False, False, None]


def test_a_worker_that_was_killed_is_replaced() -> None:
    assert same_expression("a+2b", "2b+a", SLOW_S) is True
    worker = _process()._process
    assert worker is not None
    worker.kill()
    worker.wait()
    assert same_expression("a+3b", "3b+a", SLOW_S) is True


def test_a_forked_child_has_a_worker_of_its_own() -> None:
    assert same_expression("a+4b", "4b+a", SLOW_S) is True
    worker = _process()._process
    child = os.fork()
    if child == 0:
        same = same_expression("a+5b", "5b+a", SLOW_S) is True
        _process().close()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert same_expression("a+6b", "6b+a", SLOW_S) is True
    assert _process()._process is worker


def test_expressions_are_compared_from_any_thread() -> None:
    seen: list[bool | None] = []
    threads = [
        threading.Thread(target=lambda: seen.append(same_expression("a+b+c", "c+b+a", SLOW_S))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 4
