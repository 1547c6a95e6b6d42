"""Numbers as models write them, read exactly: `$1,234.50`, `-3/4`, `2 1/2`, `50%`, `1.5e3`, `\\frac{1}{2}`."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["bare_number", "first_number", "last_number", "number_value", "only_number"]

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?<![A-Za-z^_])(?P<sign>(?<![\w)\]}}])[-−–]\s?)?[$£€]?(?P<a>{_PLAIN})"
    r"(?:[eE](?P<exp>[+-]?\d{1,2})(?!\d)|\s*/\s*(?P<b>\d[\d,]*)(?![\d.]*[\d/])|\s+(?P<n>\d+)/(?P<d>\d+)(?![\d/]))?"
)
_UNIT = re.compile(r"\s*(?:%|percent|°)?\s*[A-Za-z°²³/ ]{0,40}\W*")
_FRAC = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_LONGEST = 300
"""Longer digit strings (a model that loops) are kept as they are; Python refuses to read more than 4,300 digits."""


def first_number(text: str) -> str | None:
    """Return the first number of a text in normal form."""
    match = _NUMBER.search(_plain(text))
    return None if match is None else _normal(match)


def last_number(text: str) -> str | None:
    """Return the last number of a text in normal form."""
    for line in reversed(_plain(text).splitlines()):
        if matches := list(_NUMBER.finditer(line)):
            return _normal(matches[-1])
    return None


def only_number(text: str) -> str | None:
    """Return the number that a text consists of, a currency sign or a unit aside, else None."""
    plain = _plain(text).strip(" \t\n\"'`*_$")
    match = _NUMBER.match(plain)
    return _normal(match) if match and _UNIT.fullmatch(plain, match.end()) else None


def bare_number(text: str) -> str | None:
    """Return the number that a text consists of and nothing else: `5!` and `5 cm` are none, `5%` is."""
    plain = _plain(text).strip(" \t\n$")
    match = _NUMBER.match(plain)
    return _normal(match) if match and plain[match.end() :].strip() in ("", "%", ".") else None


def number_value(number: str) -> Fraction | None:
    """Return the exact value of a number in normal form, None for one that is too long to be read."""
    return Fraction(number) if len(number) <= _LONGEST else None


def _plain(text: str) -> str:
    if "\\" not in text and "{" not in text:
        return text
    text = _FRAC.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]} ", text)
    text = text.replace("{,}", ",").replace("\\!", "").replace("\\,", "").replace("\\$", "$")
    return text.replace("\\%", "%")


def _normal(match: re.Match[str]) -> str:
    """Write a matched number as an integer, a finite decimal, or a reduced fraction."""
    if len(match[0]) > _LONGEST:
        return match["a"].replace(",", "")
    value = Fraction(match["a"].replace(",", ""))
    if match["exp"] is not None:
        value *= Fraction(10) ** int(match["exp"])
    elif match["b"] is not None and (divisor := int(match["b"].replace(",", ""))) != 0:
        value /= divisor
    elif match["n"] is not None and int(match["d"]) != 0:
        value += Fraction(int(match["n"]), int(match["d"]))
    return _written(-value if match["sign"] else value)


def _written(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}"
