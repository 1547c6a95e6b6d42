"""Readers of models' replies: pure functions, tolerant of form, strict in meaning.

A reader takes the formats that the prompts of the styles `default` and `compact` ask for and their common variants
(Markdown, missing brackets, prose around it). What cannot be read without guessing is None, never a pass and never a
default; where a reply contradicts itself on one line it is not read, where it changes its mind the last word counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

__all__ = [
    "Ranking",
    "read_critiques",
    "read_preference",
    "read_ranking",
    "read_score",
    "read_statements",
    "read_test_results",
    "read_verdict",
]

_MARKUP = re.compile(r"[*_`]+")
_SPACES = re.compile(r"[^\S\n]+")
_NOUN = r"(?:(?:candidate|response|answer|option|no\.)[ \t]*)?#?"
_BRACKETED = _NOUN + r"[\[(][ \t]*\d{1,4}[ \t]*[\])]"
_BARE = _NOUN + r"\d{1,4}"
_SEPARATOR = r"[ \t]*(?:>{1,2}|≥|>=|=|→|->|,|;)[ \t]*"
_ITEM = rf"(?:{_BRACKETED}|{_BARE})"
_CHAIN = re.compile(rf"{_BRACKETED}(?:{_SEPARATOR}{_BRACKETED})+", re.IGNORECASE)
_CHAIN_AFTER_LABEL = re.compile(rf"{_ITEM}(?:{_SEPARATOR}{_ITEM})+", re.IGNORECASE)
_NUMBERS_ALONE = re.compile(
    rf"[ \t]*[\[(]?{_ITEM}(?:(?:{_SEPARATOR}|[ \t]+){_ITEM})*[ \t]*[\])]?[ \t]*\.?[ \t]*", re.IGNORECASE
)
_RANKING_LABEL = re.compile(r"\b(?:rank(?:ing|ed|s)?|final order)\b[^:\n]{0,40}:[ \t]*", re.IGNORECASE)
_PLACE = re.compile(rf"[ \t]*\d{{1,4}}[.):][ \t]*{_NOUN}\[[ \t]*(\d{{1,4}})[ \t]*\]", re.IGNORECASE)
_LONE = re.compile(rf"[ \t]*(?:[-•][ \t]*)?{_NOUN}\[[ \t]*(\d{{1,4}})[ \t]*\][ \t]*[.,;]?[ \t]*", re.IGNORECASE)
_DIGITS = re.compile(r"\d{1,4}")


def _plain(text: str) -> str:
    # Runs of spaces become one, so that no pattern can take quadratic time over them.
    return _SPACES.sub(" ", _MARKUP.sub("", text))


class Ranking(NamedTuple):
    """An order of candidates that a reply gives."""

    order: tuple[int, ...]
    """Positions from 0, best first; always a permutation: what the reply leaves out follows in its old order."""
    named: int
    """How many of them, from the front, the reply named itself."""


def read_ranking(text: str, count: int) -> Ranking | None:
    """Read an order of `count` numbered candidates, such as `Ranking: [2] > [1] > [3]`.

    Numbers that repeat or lie outside 1..count are passed over. A chain after the last `Ranking:` comes first, then the
    last chain of bracketed numbers anywhere, then a line or a list of numbers that stands alone. None where the reply
    names no candidate in any of these ways.
    """
    clean = _plain(text)
    for numbers in (_labelled(clean), _last_chain(clean), _listed(clean)):
        named = tuple(dict.fromkeys(number - 1 for number in numbers if 1 <= number <= count))
        if named:
            rest = tuple(position for position in range(count) if position not in named)
            return Ranking(named + rest, len(named))
    return None


def _labelled(text: str) -> list[int]:
    labels = list(_RANKING_LABEL.finditer(text))
    if not labels:
        return []
    rest = text[labels[-1].end() :].strip()
    line = rest.partition("\n")[0]
    if chain := _CHAIN_AFTER_LABEL.match(line):
        return _numbers(chain.group())
    if _NUMBERS_ALONE.fullmatch(line):
        return _numbers(line)
    return _vertical(rest)


def _last_chain(text: str) -> list[int]:
    chains = [match.group() for match in _CHAIN.finditer(text)]
    return _numbers(chains[-1]) if chains else []


def _listed(text: str) -> list[int]:
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and _NUMBERS_ALONE.fullmatch(lines[-1]) and (len(lines) == 1 or len(_numbers(lines[-1])) > 1):
        return _numbers(lines[-1])
    return _vertical(text)


def _vertical(text: str) -> list[int]:
    for pattern in (_PLACE, _LONE):
        read = pattern.match if pattern is _PLACE else pattern.fullmatch
        found = [int(match.group(1)) for line in text.splitlines() if (match := read(line))]
        if len(found) > 1:
            return found
    return []


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in _DIGITS.findall(text)]


_PREFERENCE = re.compile(
    r"\b(?:better|winner|best|preferred|verdict)[ \t]*:[ \t]*"
    rf"(?:(tie|equal|both|neither)\b|{_NOUN}[\[(]?[ \t]*([12])\b)",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"\W*(?:(tie|equal)|{_NOUN}[\[(]?[ \t]*([12])[ \t]*[\])]?)\W*", re.IGNORECASE)


def read_preference(text: str) -> float | None:
    """Read which of two candidates is better: 1.0 for the first, 0.0 for the second, 0.5 for a tie, None if unclear."""
    clean = _plain(text)
    labelled = list(_PREFERENCE.finditer(clean))
    match = labelled[-1] if labelled else _ALONE.fullmatch(clean)
    if match:
        return 0.5 if match.group(1) else 1.0 if match.group(2) == "1" else 0.0
    ranking = read_ranking(text, 2)
    return None if ranking is None else 1.0 - ranking.order[0]


_SECTION = re.compile(
    r"^[ \t]*+(?:[#>-]++[ \t]*+)?[*_]*+"
    r"(?:(?:candidate|response)?[ \t]*+\[[ \t]*+(\d{1,4})[ \t]*+\]"
    r"|(?:candidate|response)[ \t]++#?(\d{1,4})(?=[ \t*_]*+(?:[:.)-]|$)))"
    r"[ \t*_:.)-]*+",
    re.IGNORECASE | re.MULTILINE,
)


def read_critiques(text: str, count: int) -> tuple[str | None, ...] | None:
    """Read one critique per candidate from sections that begin with `[i]` on a line of their own.

    The result has `count` entries, None where a candidate has no section; further sections on a candidate are joined to
    its first. A text without any section is the critique of a lone candidate, and None where there are several.
    """
    found: dict[int, list[str]] = {}
    marks = [mark for mark in _SECTION.finditer(text) if 1 <= int(mark.group(1) or mark.group(2)) <= count]
    for mark, following in zip_longest(marks, marks[1:]):
        end = following.start() if following else len(text)
        if body := text[mark.end() : end].strip():
            found.setdefault(int(mark.group(1) or mark.group(2)), []).append(body)
    if not found:
        return (text.strip(),) if count == 1 and not marks and text.strip() else None
    return tuple("\n".join(found[n]) if n in found else None for n in range(1, count + 1))


_VERDICT_BRACKET = re.compile(r"\[\s*(in)?correct\s*\]", re.IGNORECASE)
_VERDICT_LABEL = re.compile(r"\bverdict\W{0,4}(not\s+)?(in)?correct\b", re.IGNORECASE)
_VERDICT_BARE = re.compile(r"\W*(not\s+)?(in)?correct\W*", re.IGNORECASE)
_VERDICT_SENTENCE = re.compile(
    r"\b(?:response|answer|solution|candidate|result|it)\s+is\s+(?:therefore\s+|thus\s+)?(not\s+)?(in)?correct\b",
    re.IGNORECASE,
)


def read_verdict(text: str) -> bool | None:
    """Read whether a response was found correct: `[Correct]`, `Verdict: incorrect`, or a last sentence that says so."""
    lines = [line for line in _plain(text).splitlines() if line.strip()]
    for line in reversed(lines):
        if marks := {match.group(1) is None for match in _VERDICT_BRACKET.finditer(line)}:
            return _only(marks)
    for line in reversed(lines):
        if labels := {_polarity(match) for match in _VERDICT_LABEL.finditer(line)}:
            return _only(labels)
    if len(lines) == 1 and (match := _VERDICT_BARE.fullmatch(lines[0])):
        return _polarity(match)
    return _only({_polarity(match) for match in _VERDICT_SENTENCE.finditer(lines[-1])}) if lines else None


def _polarity(match: re.Match[str]) -> bool | None:
    negated, wrong = match.group(1) is not None, match.group(2) is not None
    return None if negated and wrong else not (negated or wrong)


def _only(kinds: Iterable[bool | None]) -> bool | None:
    kinds = list(kinds)
    return kinds[0] if len(kinds) == 1 else None


_SCORE_LABEL = re.compile(r"\b(?:score|rating)[ \t\])]*(?::|=|is|of)[ \t\[(]*(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_SCORE_OF_TEN = re.compile(r"(?<![\d.])(-?\d+(?:\.\d+)?)[ \t]*(?:/|out of)[ \t]*10\b", re.IGNORECASE)
_SCORE_ALONE = re.compile(r"[^\w-]*(-?\d+(?:\.\d+)?)[^\w]*")


def read_score(text: str, low: float = 1.0, high: float = 10.0) -> float | None:
    """Read a score such as `Score: 7`, `7/10` or a lone `7`; None where there is none or it lies outside low..high."""
    clean = _plain(text)
    for pattern in (_SCORE_LABEL, _SCORE_OF_TEN):
        if found := pattern.findall(clean):
            score = float(found[-1])
            return score if low <= score <= high else None
    if match := _SCORE_ALONE.fullmatch(clean):
        score = float(match.group(1))
        return score if low <= score <= high else None
    return None


_NUMBERED = re.compile(
    r"^[ \t]*[*_]*(?:test[ \t]*)?\(?(\d{1,3})[.):][*_]*[ \t]+(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE
)
_BULLET = re.compile(r"^[ \t]*[-•*][ \t]+(\S[^\n]*)$", re.MULTILINE)


def read_statements(text: str, count: int) -> tuple[str, ...]:
    """Read up to `count` different statements from a numbered list, or from a bulleted one; none is an empty tuple."""
    numbered = [match.group(2) for match in _NUMBERED.finditer(text)]
    lines = numbered or [match.group(1) for match in _BULLET.finditer(text)]
    statements = (_MARKUP.sub("", line).strip().strip('"').strip() for line in lines)
    return tuple(dict.fromkeys(s for s in statements if any(character.isalnum() for character in s)))[:count]


_TEST_LINE = re.compile(r"\W{0,8}(?:(?:unit[ \t]+)?(?:test|statement)[ \t]*)?#?[\[(]?(\d{1,3})\b(.*)", re.IGNORECASE)
_RESULT_BRACKET = re.compile(r"\[\s*(pass(?:ed)?|fail(?:ed)?)\s*\]", re.IGNORECASE)
_RESULT_FIRST = re.compile(r"\W*(pass(?:ed|es)?|fail(?:ed|s)?)\b", re.IGNORECASE)
_RESULT_LAST = re.compile(r"[:\-–—→>|]\s*(pass(?:ed|es)?|fail(?:ed|s)?)\W*$", re.IGNORECASE)


def read_test_results(text: str, count: int) -> tuple[bool | None, ...]:
    """Read whether each of `count` numbered tests passed, from lines such as `2. [Failed] no unit is given`.

    The result always has `count` entries, None where no line gives a clear result: what one line says can never move
    to another test. Only the result's own mark is read, so a failed line that speaks of a "password" stays failed.
    """
    numbered: dict[int, bool | None] = {}
    unnumbered: list[bool | None] = []
    current: int | None = None
    for line in _plain(text).splitlines():
        head = _TEST_LINE.match(line)
        if head and 1 <= int(head.group(1)) <= count:
            current = int(head.group(1))
            if (kinds := _results(head.group(2))) is not None:
                numbered[current] = _only(kinds)
        elif head is None and (kinds := _results(line)):
            unnumbered.append(_only(kinds))
            if current is not None:
                numbered.setdefault(current, _only(kinds))
    if not numbered and len(unnumbered) == count:
        return tuple(unnumbered)
    return tuple(numbered.get(number) for number in range(1, count + 1))


def _results(line: str) -> set[bool] | None:
    if brackets := _RESULT_BRACKET.findall(line):
        return {word.lower().startswith("pass") for word in brackets}
    match = _RESULT_FIRST.match(line) or _RESULT_LAST.search(line)
    return {match.group(1).lower().startswith("pass")} if match else None
