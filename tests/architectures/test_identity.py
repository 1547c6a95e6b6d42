"""The id says what an architecture is, not how it was written; what is written can be read back."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from architectures.canonical import canonical_json
from architectures.parse import parse, parse_text
from architectures.spec import ArchitectureSpec
from architectures.structure import ancestors
from db.errors import SpecError

NodeData = dict[str, Any]
QUICK = settings(deadline=None, max_examples=50)
CONDITIONS = st.dictionaries(
    st.sampled_from(["agreement", "candidates"]),
    st.dictionaries(st.sampled_from(["below", "at_least"]), st.floats(0, 9), min_size=1, max_size=2),
    min_size=1,
    max_size=2,
)
TECHNIQUES: st.SearchStrategy[NodeData] = st.one_of(
    st.fixed_dictionaries({"use": st.just("generate"), "model": st.sampled_from(["a", "b"])}),
    st.fixed_dictionaries(
        {"use": st.just("generate"), "model": st.just(["a", "b"]), "samples": st.integers(1, 3)},
    ),
    st.fixed_dictionaries({"use": st.just("vote")}),
    st.fixed_dictionaries({"use": st.just("rank"), "model": st.just("a"), "keep": st.integers(1, 2)}),
)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 1) -> NodeData:
    """Graphs in which every node leads to the output."""
    kinds = TECHNIQUES
    if depth:
        inner = graphs(depth=depth - 1)
        loops = st.fixed_dictionaries({"use": st.just("loop"), "body": inner, "max": st.integers(1, 3)})
        kinds = st.one_of(TECHNIQUES, loops, st.fixed_dictionaries({"use": st.just("architecture"), "spec": inner}))
    nodes: dict[str, NodeData] = {}
    for number in range(draw(st.integers(1, 5))):
        node = dict(draw(kinds))
        if number:
            node["after"] = draw(st.lists(st.sampled_from(sorted(nodes)), unique=True, max_size=3))
        if draw(st.booleans()):
            node["when"] = draw(CONDITIONS)
        nodes[f"n{number}"] = node
    followed = {name for node in nodes.values() for name in node.get("after", ())}
    return {"nodes": nodes, "output": [name for name in nodes if name not in followed]}


def renamed(data: NodeData, names: dict[str, str], seed: int) -> NodeData:
    """The same graph with other names, other order of keys, and one-element lists written bare."""
    items = list(data["nodes"].items())
    random.Random(seed).shuffle(items)
    nodes = {}
    for name, node in items:
        node = dict(sorted(node.items(), reverse=True))
        if node.get("after"):
            after = [names[other] for other in node["after"]]
            node["after"] = after[0] if len(after) == 1 else after
        nodes[names[name]] = node
    return {"name": "another", "output": [names[name] for name in data["output"]], "nodes": nodes}


@QUICK
@given(graphs())
def test_what_is_written_reads_back_as_the_same(data: NodeData) -> None:
    spec = parse(data)
    again = parse(spec.data())
    assert again.id == spec.id
    assert again.data() == spec.data()
    assert {node.id for node in again.nodes} == {node.id for node in spec.nodes}


@QUICK
@given(graphs(), st.integers(0, 99))
def test_names_order_and_file_format_make_no_difference(data: NodeData, seed: int) -> None:
    spec = parse(data)
    names = {name: f"x{number}" for number, name in enumerate(reversed(list(data["nodes"])))}
    other = renamed(data, names, seed)
    assert parse(other).id == spec.id
    assert parse_text(json.dumps(other)).id == spec.id
    assert parse_text(yaml.safe_dump(data)).id == spec.id


@QUICK
@given(graphs())
def test_every_node_stands_after_those_it_follows(data: NodeData) -> None:
    spec = parse(data)
    place = {node.id: number for number, node in enumerate(spec.ordered)}
    assert len(place) == len(spec.nodes)
    for node in spec.nodes:
        assert all(place[name] < place[node.id] for name in node.after)


@QUICK
@given(graphs())
def test_ancestors_are_closed_over_what_is_followed(data: NodeData) -> None:
    nodes = parse(data).ordered
    before = ancestors(nodes)
    place = {node.id: number for number, node in enumerate(nodes)}
    for number, node in enumerate(nodes):
        for name in node.after:
            assert before[number] >> place[name] & 1
            assert before[place[name]] & ~before[number] == 0


def test_layers_and_the_equal_graph_are_one_architecture() -> None:
    layers = parse_text(
        """
layers:
  - [{generate: {model: a}}, {generate: {model: b, samples: 2}}]  # side by side
  - rank: {model: b, keep: 1}
"""
    )
    graph = parse_text(
        """
nodes:
  best: {after: [one, two], keep: 1, use: rank, model: b}
  two: {use: generate, samples: 2, model: [b]}
  one: {use: generate, model: a, samples: 1, temperature: null}
"""
    )
    assert layers.id == graph.id


def test_the_order_of_what_is_joined_is_part_of_the_architecture() -> None:
    nodes: NodeData = {"a": {"use": "generate", "model": "a"}, "b": {"use": "generate", "model": "b"}}
    one = parse({"nodes": {**nodes, "v": {"use": "vote", "after": ["a", "b"]}}})
    other = parse({"nodes": {**nodes, "v": {"use": "vote", "after": ["b", "a"]}}})
    assert one.id != other.id


def test_one_node_followed_twice_is_not_two_equal_nodes() -> None:
    one = parse_text(
        "nodes: {a: {use: generate, model: m}, x: {use: vote, after: a}, y: {use: vote, after: a}, "
        "z: {use: vote, after: [x, y]}}"
    )
    two = parse_text(
        "nodes: {a: {use: generate, model: m}, b: {use: generate, model: m}, x: {use: vote, after: a}, "
        "y: {use: vote, after: b}, z: {use: vote, after: [x, y]}}"
    )
    assert one.id != two.id


def test_settings_conditions_and_rounds_are_part_of_the_architecture() -> None:
    def loop(rounds: int, bound: float, model: str) -> str:
        body = [{"judge": {"model": model}}]
        return parse([{"loop": {"max": rounds, "until": {"best_score": {"above": bound}}, "body": body}}]).id

    ids = {loop(2, 3, "m"), loop(3, 3, "m"), loop(2, 4, "m"), loop(2, 3, "n")}
    assert len(ids) == 4
    assert loop(2, 3, "m") == loop(2, 3.0, "m")


def test_the_canonical_form_is_json_with_sorted_keys_and_every_setting() -> None:
    data = json.loads(canonical_json(parse([{"generate": {"model": "m"}}, "vote"])))
    assert list(data) == sorted(data)
    assert data["nodes"][0]["settings"]["samples"] == 1
    assert data["nodes"][1]["after"] == [0]
    assert "name" not in data


def test_a_spec_is_frozen_and_checked_however_it_is_made() -> None:
    spec = parse([{"generate": {"model": "m"}}])
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]  # it is the point
    with pytest.raises(SpecError, match="there is no node 'gone'"):
        ArchitectureSpec(nodes=spec.nodes, output=("gone",))
    with pytest.raises(SpecError, match="two nodes are called 'generate'"):
        ArchitectureSpec(nodes=(*spec.nodes, *spec.nodes), output=("generate",))
    assert spec.description == ""
    described = parse({"description": "A line.", "layers": ["vote"]})
    assert parse(described.data()).description == "A line."
