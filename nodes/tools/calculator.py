"""Calculator: exact arithmetic on what a model wrote, read as a tree of numbers and signs and never run as code."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import ClassVar, Final

from nodes.tools.base import Tool, ToolError
from nodes.tools.registry import tool

__all__ = ["Calculator", "calculate"]

_LONGEST: Final = 500
"""Characters of an expression."""
_DEEPEST: Final = 250
"""Levels of the tree; a sum of as many terms is that deep."""
_MOST_BITS: Final = 4096
"""Of a numerator and of a denominator, in every step: 1,233 digits."""
_PLACES: Final = 30
"""Most places of a decimal; beyond them a fraction is written, with what it is about."""

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "$": None, "€": None, "£": None, "`": None})
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,4}))?")
_ALPHABET = re.compile(r"(?:[0-9.+\-*/%(), ]|(?<=[0-9.])[eE]|abs\b|ceil\b|floor\b|max\b|min\b|round\b)*")

_BINARY: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = MappingProxyType(
    {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: lambda a, b: Fraction(a // b),
        ast.Mod: operator.mod,
    }
)
_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Fraction | int]]] = MappingProxyType(
    {"abs": (1, abs), "ceil": (1, math.ceil), "floor": (1, math.floor), "max": (16, max), "min": (16, min)}
)
"""Functions by name, with the most arguments that they take."""


@tool("calculator")
class Calculator(Tool):
    """Work out an arithmetic expression exactly, with fractions and without rounding.

    It knows whole numbers and decimals, + - * / // % (remainder) ** (or ^) and brackets, and the functions abs, ceil,
    floor, max, min and round. The result is a whole number, a decimal, or a reduced fraction with its decimal value.

    When to use it: for sums and products that a language model gets wrong.
    Limits: expressions of 500 characters, numbers of 1,233 digits at every step, whole
        exponents; a percent sign is no percentage; no names, units, roots or equations. What is beyond fails at once.
    """

    usage: ClassVar[str] = (
        "exact arithmetic, such as calculator[(3 + 4.5) * 2]; numbers, + - * / // % ** and brackets, "
        "abs, ceil, floor, max, min, round; no words, no units"
    )

    async def call(self, text: str) -> str:
        """Return the value; raises `ToolError` for what is no arithmetic, and for what is too much of it."""
        return _written(calculate(text))


def calculate(text: str) -> Fraction:
    """Return the exact value of an expression; raises `ToolError`."""
    source = text.translate(_SIGNS).strip().removesuffix("=").strip().replace("^", "**")
    if not re.search("[A-Za-z]", source):
        # Where no function takes arguments, a comma can only group digits.
        source = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), source)
    if not source:
        raise ToolError("there is no expression")
    if len(source) > _LONGEST:
        raise ToolError(f"the expression has {len(source)} characters; at most {_LONGEST} are worked out")
    source = " ".join(source.split())
    end = _ALPHABET.match(source)
    if end is None or end.end() < len(source):
        # Python's parser never sees anything but numbers, signs and the names of functions.
        place = end.end() if end else 0
        raise ToolError(f"{_short(source[place:])!r} is no arithmetic")
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # The parser gives up on deep nesting with either of the last two.
        raise ToolError(f"{_short(source)!r} is no arithmetic expression") from None
    return _value(tree.body, source, 0)


def _value(node: ast.expr, source: str, depth: int) -> Fraction:
    if depth > _DEEPEST:
        raise ToolError(f"the expression is nested more than {_DEEPEST} levels deep")
    match node:
        case ast.Constant():
            return _constant(node, source)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
            value = _value(node.operand, source, depth + 1)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp():
            left, right = _value(node.left, source, depth + 1), _value(node.right, source, depth + 1)
            return _binary(node.op, left, right)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _function(name, [_value(one, source, depth + 1) for one in arguments])
    raise ToolError(f"{_short(ast.get_source_segment(source, node) or source)!r} is no arithmetic")


def _constant(node: ast.Constant, source: str) -> Fraction:
    # The digits as they were written: a float would have rounded 0.1.
    segment = ast.get_source_segment(source, node) or ""
    match = _NUMBER.fullmatch(segment)
    if match is None or isinstance(node.value, bool):
        raise ToolError(f"{_short(segment)!r} is no number")
    # The exponent is looked at before the number is made, which would take its time over 1e9999.
    if abs(int(match[1] or 0)) > _MOST_BITS // 4:
        raise ToolError(f"{_short(segment)!r} is too large or too small")
    return _bounded(Fraction(segment))


def _binary(sign: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    if isinstance(sign, ast.Pow):
        return _power(left, right)
    work = _BINARY.get(type(sign))
    if work is None:
        raise ToolError(f"the sign {type(sign).__name__} is no arithmetic")
    try:
        return _bounded(work(left, right))
    except ZeroDivisionError:
        raise ToolError("division by zero") from None


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ToolError("an exponent must be a whole number")
    if base == 0 and exponent < 0:
        raise ToolError("division by zero")
    if base in (0, 1, -1):
        # No size to fear, and an exponent of any length has its parity.
        return Fraction(1) if exponent == 0 or (base == -1 and exponent % 2 == 0) else base
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if (bits - 1) * abs(exponent.numerator) > _MOST_BITS:
        raise ToolError("the power is too large")
    return _bounded(base ** int(exponent))


def _function(name: str, arguments: list[Fraction]) -> Fraction:
    if name == "round" and 1 <= len(arguments) <= 2:
        places = arguments[1] if len(arguments) == 2 else Fraction(0)
        if places.denominator != 1 or not 0 <= places <= _PLACES:
            raise ToolError(f"round takes a whole number of places from 0 to {_PLACES}")
        return _bounded(Fraction(round(arguments[0], int(places))))
    known = _FUNCTIONS.get(name)
    if known is None:
        raise ToolError(f"there is no function {_short(name)!r}")
    most, work = known
    if not 1 <= len(arguments) <= most:
        raise ToolError(f"{name} takes 1 to {most} numbers, not {len(arguments)}")
    return Fraction(work(arguments[0]) if most == 1 else work(arguments))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
        raise ToolError("a number on the way has more than 1,233 digits")
    return value


def _written(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    scaled = abs(value) * 10**_PLACES
    if scaled.denominator == 1:
        digits = str(scaled.numerator).zfill(_PLACES + 1)
        return f"{'-' if value < 0 else ''}{digits[:-_PLACES]}.{digits[-_PLACES:].rstrip('0')}"
    try:
        return f"{value} (about {float(value):.12g})"
    except OverflowError:
        return str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
