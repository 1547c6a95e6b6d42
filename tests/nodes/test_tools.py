from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nodes.tools
from db.errors import ColonnadeError, DataError, SpecError
from nodes.registry import get
from nodes.tools import Tool, ToolError, get_tool, tool, tool_name, tool_names
from nodes.tools.calculator import calculate
from tests.helpers import cpu_seconds


def call(name: str, text: str, **settings: object) -> str:
    return asyncio.run(get_tool(name).model_validate(settings).call(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 * 4", "12"),
        ("0.1 + 0.2", "0.3"),
        ("1/3", "1/3 (about 0.333333333333)"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2^10 - 2**3", "1016"),
        ("-2 ** 2", "-4"),
        ("2 ** -3", "0.125"),
        ("(-1) ** 99999999999999999999", "-1"),
        ("1,234.50 × 2", "2469"),
        ("$3 − $0.5 =", "2.5"),
        ("max(1,234)", "234"),
        ("round(2/3, 2) + ceil(1.1) + floor(-0.5) + abs(-1)", "2.67"),
        ("1e3 + 1E-2", "1000.01"),
        ("12345678901234567890 * 98765432109876543210", "1219326311370217952237463801111263526900"),
        ("+".join("1" * 240), "240"),
    ],
)
def test_it_calculates_exactly(text: str, value: str) -> None:
    assert call("calculator", text) == value


@given(st.integers(-(10**30), 10**30), st.integers(-(10**30), 10**30), st.integers(1, 10**12))
def test_it_agrees_with_fractions(a: int, b: int, c: int) -> None:
    assert calculate(f"(({a}) * ({b}) - ({a})) / {c}") == Fraction(a * b - a, c)


@given(st.text(max_size=80) | st.text("0123456789.+-*/%()eE, absmxinroudcl", max_size=80))
def test_any_text_has_a_value_or_a_tool_error(text: str) -> None:
    try:
        said = call("calculator", text)
    except ToolError as error:
        said = str(error)
    assert 0 < len(said) < 3000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9**9**9", "power is too large"),
        ("2**4096", "more than 1,233 digits"),
        ("(2**4000)*(2**4000)", "more than 1,233 digits"),
        ("(1/3)**99999999", "power is too large"),
        ("1e999999999", "is no number"),
        ("1e9999", "too large or too small"),
        ("2**0.5", "whole number"),
        ("round(1, 10**9)", "places from 0 to 30"),
        ("round(1, -9)", "places from 0 to 30"),
        ("0 ** -1", "division by zero"),
        ("5 % (3 - 3)", "division by zero"),
        ("(" * 240 + "1" + ")" * 240, "no arithmetic expression"),
        ("-" * 300 + "1", "levels deep"),
        ("9" * 501, "501 characters"),
        ("__import__('os').system('true')", "no arithmetic"),
        ("(1).__class__", "no arithmetic"),
        ("abs.__globals__", "no arithmetic"),
        ("x + 1", "no arithmetic"),
        ("'a' * 9", "no arithmetic"),
        ("[1, 2]", "no arithmetic"),
        ("lambda: 1", "no arithmetic"),
        ("1 < 2", "no arithmetic"),
        ("True", "no arithmetic"),
        ("0x10", "no arithmetic"),
        ("1_000", "no arithmetic"),
        ("3j", "no arithmetic"),
        ("(1, 2)", "no arithmetic"),
        ("max()", "takes 1 to 16 numbers, not 0"),
        ("abs(1, 2)", "takes 1 to 1 numbers, not 2"),
        ("max(*(1, 2))", "no arithmetic"),
        ("max", "no arithmetic"),
        ("round", "no arithmetic"),
        ("20% of 5", "no arithmetic"),
        ("1 +", "no arithmetic expression"),
        ("²", "no arithmetic"),
        ("٣ + 1", "no arithmetic"),
        ("1\0", "no arithmetic"),
        (" = ", "no expression"),
    ],
)
def test_it_refuses_at_once(text: str, why: str) -> None:
    def refused() -> None:
        with pytest.raises(ToolError, match=why):
            call("calculator", text)

    assert cpu_seconds(refused, enough=0.5) <= 0.5


def test_lookup_finds_the_passages_that_fit_best(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text(
        '{"title": "Danube", "text": "The river Danube is 2850 km long."}\n\n'
        '{"text": "The Rhine is 1233 km long."}\n{"text": "Bread is baked."}\n'
    )
    found = call("lookup", "How long is the Danube?", file=str(file), passages=1)
    assert found == "Danube: The river Danube is 2850 km long."
    two = call("lookup", "km long: Rhine", file=str(file), passages=5)
    assert two.split("\n\n")[0] == "The Rhine is 1233 km long."
    assert "Bread" not in two
    assert call("lookup", "danube", file=str(file), passage_chars=20) == "Danube: The river D…"
    with pytest.raises(ToolError, match=r"no passage shares a word with 'Xylophone\?'"):
        call("lookup", "Xylophone?", file=str(file))


def test_lookup_reads_paragraphs_of_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "facts.md"
    file.write_text("Cups hold tea.\nPots too.\n \n\nTrays hold cups.\n")
    assert call("lookup", "pots", file=str(file)) == "Cups hold tea.\nPots too."


def test_lookup_is_pinned_to_what_stood_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "facts.txt"
    file.write_text("Old words.")
    made = get_tool("lookup").model_validate({"file": str(file)})
    assert len(made.model_dump()["file_sha256"]) == 16
    file.write_text("Other words that are new.")
    with pytest.raises(DataError, match="has changed since this architecture was made"):
        asyncio.run(made.call("words"))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl", b'{"text": "good"}\n{"title": "no text"}', "line 2: no passage"),
        ("a.jsonl", b"[1]", "line 1: no passage"),
        ("a.jsonl", b'{"text": "good", "title": 3}', "line 1: no passage"),
        ("a.jsonl", b"{", "line 1: no passage"),
        ("a.txt", b" \n\n ", "holds no passage"),
        ("a.txt", b"ab\xff", "byte 2: not UTF-8"),
    ],
)
def test_a_file_that_is_wrong_is_the_users_mistake(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError, match=why):
        call("lookup", "words", file=str(file))


def test_a_missing_file_and_a_wrong_name_are_said_when_the_settings_are_read() -> None:
    with pytest.raises(ValueError, match=r"in tool 'lookup': The file 'nowhere.txt' cannot be read"):
        get("rewoo").model_validate({"model": "a", "tools": [{"use": "lookup", "file": "nowhere.txt"}]})
    with pytest.raises(ValueError, match=r"There is no tool 'calculater'\. Did you mean 'calculator'"):
        get("rewoo").model_validate({"model": "a", "tools": ["calculater"]})
    with pytest.raises(ValueError, match="a tool is a name, or a mapping with 'use'"):
        get("rewoo").model_validate({"model": "a", "tools": [7]})
    with pytest.raises(ValueError, match="in tool 'calculator': depth: Extra inputs"):
        get("rewoo").model_validate({"model": "a", "tools": [{"use": "calculator", "depth": 3}]})


def test_tools_are_registered_with_what_they_need() -> None:
    assert {"calculator", "lookup"} <= set(tool_names())
    assert issubclass(ToolError, ColonnadeError)
    assert tool_name(get_tool("lookup")) == "lookup"

    class Wordless(Tool):
        """Say nothing."""

        usage = "nothing"

        async def call(self, text: str) -> str:
            return text

    with pytest.raises(SpecError, match="lacks 'When to use it', 'Limits' in its docstring"):
        tool("wordless")(Wordless)
    with pytest.raises(SpecError, match="is not registered"):
        tool_name(Wordless)
    with pytest.raises(SpecError, match=r"the name of a built-in tool|has a name that"):
        tool("lookup")(Wordless)
    with pytest.raises(SpecError, match="other than 'llm'"):
        tool("LLM")(Wordless)
    with pytest.raises(SpecError, match="is abstract"):
        tool("abstract")(Tool)  # type: ignore[type-abstract]  # refused, which is the point
    with pytest.raises(SpecError, match="There is no tool 'wordless'"):
        get_tool("wordless")


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(nodes.tools.__all__) == sorted(nodes.tools.__all__)
    assert all(hasattr(nodes.tools, name) for name in nodes.tools.__all__)
