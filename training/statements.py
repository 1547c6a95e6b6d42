"""Unit tests in words: statements that a right solution fulfils, and whether a given one does."""

from __future__ import annotations

import re

_LINE = re.compile(r"(-?\d+) ([+*/-]) (-?\d+) = (-?\d+)")
_NUMBER = re.compile(r"\d+")
_VERBS = {"+": "adds", "-": "subtracts", "*": "multiplies by", "/": "divides by"}
_OPERATORS = {verb: operator for operator, verb in _VERBS.items()}
_CLAIM = re.compile(rf"It ({'|'.join(_OPERATORS)}|never uses) (\d+)\.")


def statements(question: str, solution: tuple[str, ...]) -> tuple[str, ...]:
    """Write the statements that can be read off the question, in the order of the solution's steps."""
    told = {int(number) for number in _NUMBER.findall(question)}
    used = {number for line in solution for number in map(int, _NUMBER.findall(line))}
    steps = [_LINE.match(line) for line in solution]
    found = [f"It {_VERBS[m[2]]} {m[3]}." for m in steps if m and (int(m[3]) in told or m[3] == "7")]
    found += [f"It never uses {number}." for number in sorted(told - used)]
    return (*dict.fromkeys(found), "It ends with an answer.", "Its sums are right.")


def holds(statement: str, text: str) -> bool:
    """Say whether a solution fulfils a statement."""
    steps = [match for line in text.splitlines() if (match := _LINE.match(line))]
    claim = _CLAIM.fullmatch(statement)
    if claim is None:
        return "Answer:" in text if "answer" in statement else all(_is_true(step) for step in steps)
    verb, number = claim.groups()
    if verb == "never uses":
        return all(number not in (step[1], step[3]) for step in steps)
    return any(step[2] == _OPERATORS[verb] and step[3] == number for step in steps)


def _is_true(step: re.Match[str]) -> bool:
    left, right, value = int(step[1]), int(step[3]), int(step[4])
    results = {"+": left + right, "-": left - right, "*": left * right, "/": left // right if right else value}
    return results[step[2]] == value
