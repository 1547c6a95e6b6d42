"""Answers: taken out of a reply, brought to a normal form, and compared.

A normal form is what votes count and tables show: two answers of the same normal form are the same answer. `equivalent`
goes further where that is needed (mathematics): it may find two answers the same whose normal forms differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from nodes.base import AnswerKind
from nodes.latex import last_boxed, normal_latex
from nodes.numerals import first_number, last_number, number_value, only_number

__all__ = ["equivalent", "extract"]

_JSON_FIELD = re.compile(r'"(?:final[_ ]?)?answer"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([^",{}\[\]\n]+))', re.IGNORECASE)
_JSON_OPENING = re.compile(r"\s*(?:`{3}\w*\s*)?\{\s*\"")
_FORMULA = re.compile(r"\d\D*=\D*\d")
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_MARKER = re.compile(
    r"answers?(?:\s+(?:to|of|for)\s[^.:\n]{0,80}?)?[\"'*_\s]*(?:is|are|was|would be|should be|=|:)"
    r"(?:\s*(?:equal to|equals|:))?[\"'*_\s:]*([^\n]{0,10000})",
    re.IGNORECASE,
)
_MOST_STATEMENTS = 50
"""A reply that says "answer" more often is a loop, and only its end is read."""
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_WRAPPING = " \t\r\n\"'`*_"
_CLOSING_TAGS = re.compile(r"(?:\s*(?:</s>|<\|[a-z_]+\|>))+\s*$")

_LETTER = re.compile(r"[\s\"'*_(\[{$\\]*(?:(?:option|choice)\s+)?[(\[*]*([A-Z])(?![A-Za-z'’])(?!(?<=I)\s+[a-z])")
_SMALL_LETTER = re.compile(r"[\s\"'*_(\[]*([a-z])[)\]\"'*_.]*\s*$")
_LEADING_LETTER = re.compile(r"\s*[(\[*\"']*([A-Za-z])(?:[)\]*.:\"']+|\s*$)")
_LAST_BRACKETED = re.compile(r"\(([A-Z])\)")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{")


def extract(text: str, kind: AnswerKind) -> str | None:
    """Take the answer out of a reply and give its normal form, or None where the reply states none.

    An answer is looked for in this order: the first `"answer"` field of JSON, the last `\\boxed{}`, the last `#### x`,
    the last `Answer: x` or "the answer is x". `numeric` falls back on the last number of the text, `choice` on a letter
    that stands in front or in brackets; `exact` and `text` take the whole reply, `boxed` only a box.

    A reply that is JSON is taken at its word: without a readable field, or with a formula in place of a number, it
    states no answer. (So are the published figures of recorded GSM8K replies made, and ours agree with them.)
    """
    if kind == "exact":
        return text.strip() or None
    if kind == "text":
        return _fold(text) or None
    if kind == "boxed":
        box = last_boxed(text)
        return None if box is None else normal_latex(box) or None
    if text.rstrip().endswith(">"):
        text = _CLOSING_TAGS.sub("", text)
    if kind == "numeric":
        return _numeric(text)
    if kind == "choice":
        return _choice(text)
    return _math(text) if kind == "math" else _auto(text)


def equivalent(a: str, b: str, kind: AnswerKind) -> bool:
    """Say whether two answers are the same; numbers are compared as exact fractions, never as text.

    `math` and `boxed` compare normal forms first and ask math-verify (in a process of its own, five seconds at most)
    where they differ; what it cannot decide counts as different.
    """
    if kind in ("math", "boxed"):
        from nodes.symbolic import same_expression

        return same_expression(a, b) is True
    if kind == "exact":
        return a.strip() == b.strip()
    if kind == "choice":
        return _letter(a) == _letter(b)
    if kind in ("numeric", "auto"):
        x, y = _value(a), _value(b)
        if x is not None or y is not None:
            return x == y
    return _fold(a) == _fold(b)


def _numeric(text: str) -> str | None:
    field = _json_field(text)
    if field is not None:
        return None if _FORMULA.search(field) else first_number(field)
    if _JSON_OPENING.match(text):
        return None
    box = last_boxed(text)
    if box is not None and (number := _number_in(normal_latex(box))) is not None:
        return number
    for segment in _stated(text):
        if (number := _number_in(_first_sentence(segment))) is not None:
            return number
    return last_number(text)


def _number_in(segment: str) -> str | None:
    """Read the number of a short statement: what stands behind the last `=`, else the first number."""
    if "=" in segment and (after := first_number(segment.rpartition("=")[2])) is not None:
        return after
    return first_number(segment)


def _choice(text: str) -> str | None:
    field = _json_field(text)
    if field is not None:
        return _letter(field)
    box = last_boxed(text)
    if box is not None and (letter := _letter(box)) is not None:
        return letter
    for segment in _stated(text):
        if (letter := _letter(segment)) is not None:
            return letter
    if (match := _LEADING_LETTER.match(text)) is not None and (len(text.strip()) < 4 or match[1].isupper()):
        return match[1].upper()
    bracketed = _LAST_BRACKETED.findall(text)
    return bracketed[-1] if bracketed else None


def _letter(text: str) -> str | None:
    if "\\" in text:
        text = _TEXT_COMMAND.sub("{", text)
    match = _LETTER.match(text) or _SMALL_LETTER.match(text)
    return match[1].upper() if match else None


def _math(text: str) -> str | None:
    box = last_boxed(text)
    if box is not None:
        return normal_latex(box) or None
    field = _json_field(text)
    if field is not None:
        return normal_latex(field) or None
    for segment in _stated(text):
        if normal := normal_latex(_first_sentence(segment)):
            return normal
    return None


def _auto(text: str) -> str | None:
    field = _json_field(text)
    if field is not None:
        return only_number(field) or _fold(field) or None
    box = last_boxed(text)
    if box is not None:
        normal = normal_latex(box)
        return only_number(normal) or normal or None
    for segment in _stated(text):
        sentence = _first_sentence(segment)
        if answer := only_number(sentence) or _fold(sentence):
            return answer
    return None


def _json_field(text: str) -> str | None:
    """Return the first `"answer"` field as text, None where there is none."""
    match = _JSON_FIELD.search(text) if '"' in text else None
    if match is None:
        return None
    if match[1] is None:
        return match[2].strip()
    return re.sub(r"\\([\"\\/])", r"\1", match[1])


def _stated(text: str) -> Iterator[str]:
    """Yield what the reply states as its answer, the last statement first."""
    hashes = _HASHES.findall(text) if "####" in text else []
    if hashes:
        yield hashes[-1]
    folded = text.lower()
    end = len(text)
    for _ in range(_MOST_STATEMENTS):
        if (end := folded.rfind("answer", 0, end)) < 0:
            return
        match = _MARKER.match(text, end)
        if match and match[1].strip(_WRAPPING):
            yield match[1].strip(_WRAPPING)


def _first_sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return (text[: end.start()] if end else text).strip(_WRAPPING)


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".").strip()


def _value(text: str) -> Fraction | None:
    number = only_number(text)
    return None if number is None else number_value(number)
