from __future__ import annotations

import re

import pytest
import yaml

import nodes
from architectures import load
from db.errors import SpecError
from nodes.docs import page
from nodes.registry import BUILT_IN, describe, get


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_page_has_every_section_and_every_setting(name: str) -> None:
    text = page(name)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert headings == [name, "When to use it", "Calls", "Settings", "State", "Paper", "Example"]
    assert re.search(r"arXiv \d{4}\.\d{5}", text)
    assert text.count("```") == 2
    for setting in get(name).model_fields:
        assert f"| `{setting}` |" in text
    rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_setting_says_what_it_means(name: str) -> None:
    for setting in describe(name).settings:
        assert setting.description, f"{name}.{setting.name} has no description"
        assert setting.type != "any"


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_example_is_an_architecture_without_a_warning(name: str) -> None:
    text = describe(name).sections["Example"].removeprefix("```yaml").removesuffix("```")
    assert load(yaml.safe_load(text)).warnings == ()


def test_measures_stand_on_the_page() -> None:
    assert "- Measures: `agreement`, `answers`, `distinct_answers`" in page("vote")
    assert "- Needs: nothing" in page("generate")


def test_there_is_no_page_of_an_unknown_technique() -> None:
    with pytest.raises(SpecError, match="Did you mean 'vote'"):
        page("votes")


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(nodes.__all__) == sorted(nodes.__all__)
    assert all(hasattr(nodes, name) for name in nodes.__all__)
