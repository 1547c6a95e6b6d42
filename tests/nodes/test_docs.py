from __future__ import annotations

import re

import pytest
import yaml

import nodes
from architectures import load
from db.errors import SpecError
from nodes.catalog import GROUPS, SCORERS
from nodes.describe import Description
from nodes.docs import page
from nodes.registry import BUILT_IN, describe
from nodes.scorers import describe_scorer, get_scorer, scorer_names

UNNUMBERED = {"constraint_merge", "diverse_generate"}
"""They name their paper by its title alone."""
SHIPPED = [name for name in scorer_names() if get_scorer(name).__module__ == f"nodes.scorers.{name}"]
"""A test of a benchmark may have registered others in this process."""
DESCRIBED = [*map(describe, BUILT_IN), *map(describe_scorer, SHIPPED)]


@pytest.mark.parametrize("about", DESCRIBED, ids=lambda about: about.module)
def test_a_page_has_every_section_and_every_setting(about: Description) -> None:
    text = page(about)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert headings == [about.name, "When to use it", "Calls", "Settings", "State", "Paper", "Example"]
    assert about.name in UNNUMBERED or re.search(r"arXiv\s+\d{4}\.\d{5}", text)
    assert text.count("```") == 2
    for setting in about.settings:
        assert f"| `{setting.name}` |" in text
    rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


@pytest.mark.parametrize("about", DESCRIBED, ids=lambda about: about.module)
def test_every_setting_says_what_it_means(about: Description) -> None:
    for setting in about.settings:
        assert setting.description, f"{about.name}.{setting.name} has no description"
        assert setting.type != "any"


@pytest.mark.parametrize("about", DESCRIBED, ids=lambda about: about.module)
def test_the_example_is_an_architecture_without_a_warning(about: Description) -> None:
    text = about.sections["Example"].removeprefix("```yaml").removesuffix("```")
    assert load(yaml.safe_load(text)).warnings == ()


def test_measures_stand_on_the_page() -> None:
    assert "- Measures: `agreement`, `answers`, `distinct_answers`" in page(describe("vote"))
    assert "- Needs: nothing" in page(describe("generate"))


def test_there_is_no_page_of_an_unknown_technique() -> None:
    with pytest.raises(SpecError, match="Did you mean 'vote'"):
        describe("votes")


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(nodes.__all__) == sorted(nodes.__all__)
    assert all(hasattr(nodes, name) for name in nodes.__all__)


def test_everything_that_ships_stands_in_a_group() -> None:
    assert sorted(name for members in GROUPS.values() for name in members) == list(BUILT_IN)
    assert sorted(name for members in SCORERS.values() for name in members) == SHIPPED
    assert set(SCORERS) <= set(GROUPS)
