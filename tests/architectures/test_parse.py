"""Both written forms, nesting and loops; and one clear sentence with the place for everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from architectures import load
from architectures.parse import parse, parse_text
from architectures.spec import LoopNode, NestedNode
from db.errors import SpecError
from tests.architectures.support import text

LAYERS = """
name: critic-rank-fuse
layers:
  - generate: {model: [fast, strong], samples: 4, temperature: 0.8}
  - critique: {model: strong}
  - rank: {model: strong, keep: 3}
  - fuse: {model: strong}
"""
GRAPH = """
nodes:
  draft:  {use: generate, model: fast, samples: 3}
  vote:   {use: vote, after: draft}
  expert: {use: generate, model: strong, after: vote, when: {agreement: {below: 0.67}}}
  answer: {use: vote, after: [draft, expert]}
output: answer
"""


def test_layers_become_a_chain_with_readable_names() -> None:
    spec = parse_text(LAYERS)
    assert [(node.id, node.after) for node in spec.nodes] == [
        ("generate", ()),
        ("critique", ("generate",)),
        ("rank", ("critique",)),
        ("fuse", ("rank",)),
    ]
    assert spec.name == "critic-rank-fuse"
    assert spec.output == ("fuse",)


def test_nodes_side_by_side_follow_all_of_the_layer_before_in_order() -> None:
    spec = parse(
        [
            [{"generate": {"model": "a"}}, {"generate": {"model": "b"}}],
            [{"fuse": {"model": "a"}}, {"fuse": {"model": "b"}}],
            "vote",
        ]
    )
    assert [node.id for node in spec.nodes] == ["generate", "generate-2", "fuse", "fuse-2", "vote"]
    assert spec.node("fuse-2").after == ("generate", "generate-2")
    assert spec.node("vote").after == ("fuse", "fuse-2")


def test_a_last_layer_of_several_is_the_output_in_order() -> None:
    assert parse([[{"generate": {"model": "a"}}, {"generate": {"model": "b"}}]]).output == ("generate", "generate-2")


def test_a_graph_keeps_conditions_and_order_of_after() -> None:
    spec = parse_text(GRAPH)
    expert = spec.node("expert")
    assert expert.when is not None
    assert expert.when.data() == {"agreement": {"below": 0.67}}
    assert str(expert.when) == "agreement < 0.67"
    assert spec.node("answer").after == ("draft", "expert")


def test_the_output_of_a_graph_is_what_nothing_follows() -> None:
    spec = parse({"nodes": {"b": {"use": "vote", "after": "a"}, "a": {"use": "generate", "model": "m"}}})
    assert spec.output == ("b",)


def test_loops_take_a_body_in_either_form() -> None:
    spec = parse(
        [
            {"generate": {"model": "m"}},
            {"loop": {"max": 3, "until": {"best_score": {"at_least": 8}}, "body": ["vote", {"judge": {"model": "m"}}]}},
        ]
    )
    loop = spec.node("loop")
    assert isinstance(loop, LoopNode)
    assert loop.max == 3
    assert [node.id for node in loop.body.nodes] == ["vote", "judge"]


def test_nested_architectures_come_inline_from_a_file_or_from_a_preset(tmp_path: Path) -> None:
    text(tmp_path / "inner.yaml", LAYERS)
    outer = text(
        tmp_path / "outer.yaml",
        """
nodes:
  one: {use: architecture, path: inner.yaml}
  two: {use: architecture, preset: self-consistency, with: {samples: 3}, after: one}
  three: {use: architecture, spec: [vote], after: two}
""",
    )
    spec = load(outer).spec
    assert spec.name == "outer"
    one, two, three = (spec.node(name) for name in ("one", "two", "three"))
    assert isinstance(one, NestedNode)
    assert isinstance(two, NestedNode)
    assert isinstance(three, NestedNode)
    assert one.spec.id == parse_text(LAYERS).id
    assert two.spec.nodes[0].model_dump()["settings"]["samples"] == 3
    assert [node.id for node in three.spec.nodes] == ["vote"]


def test_paths_inside_a_nested_file_start_at_that_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    text(tmp_path / "sub" / "leaf.yaml", "layers: [{generate: {model: m}}]")
    text(tmp_path / "sub" / "middle.yaml", "nodes: {a: {use: architecture, path: leaf.yaml}}")
    outer = text(tmp_path / "outer.yaml", "nodes: {a: {use: architecture, path: sub/middle.yaml}}")
    assert load(outer).spec.node("a").kind == "architecture"


def test_a_file_that_contains_itself_is_refused(tmp_path: Path) -> None:
    outer = text(tmp_path / "outer.yaml", "nodes: {a: {use: architecture, path: inner.yaml}}")
    text(tmp_path / "inner.yaml", "nodes: {b: {use: architecture, path: outer.yaml}}")
    with pytest.raises(SpecError, match=r"inner\.yaml: nodes\.b\.path: outer\.yaml would contain itself"):
        load(outer)


def test_nesting_has_a_bottom() -> None:
    data: object = [{"generate": {"model": "m"}}]
    for _ in range(10):
        data = {"nodes": {"a": {"use": "architecture", "spec": data}}}
    with pytest.raises(SpecError, match="nested more than 8 deep"):
        parse(data)


WRONG = {
    "layer 1.generate: there is no setting 'modle'. Did you mean 'model'?": "layers: [{generate: {modle: m}}]",
    "layer 1.generat: there is no technique 'generat'. Did you mean 'generate'?": "layers: [{generat: {model: m}}]",
    "nodes.a: there is no technique 'vot'. Did you mean 'vote'?": "nodes: {a: {use: vot}}",
    "layer 1.generate: the setting 'model' is missing.": "layers: [{generate: {samples: 2}}]",
    "layer 1.generate.examples.0: the setting 'answer' is missing.": (
        "layers: [{generate: {model: m, examples: [{question: q}]}}]"
    ),
    "layer 1.generate.samples: input should be greater than or equal to 1, but it is 0.": (
        "layers: [{generate: {model: m, samples: 0}}]"
    ),
    "there is no key 'layer'. Did you mean 'layers'?": "layer: [vote]",
    "an architecture has either 'layers' or 'nodes'; here are both.": "{layers: [vote], nodes: {a: {use: vote}}}",
    "an architecture has either 'layers' or 'nodes'; here are neither.": "name: nothing",
    "an architecture is a mapping with 'layers' or 'nodes', not nothing.": "",
    "an architecture is a mapping with 'layers' or 'nodes', not a str.": "just text",
    "output: with 'layers' the last layer is the output": "{layers: [vote], output: vote}",
    "name: this is a text, not 3; put it in quotes.": "{name: 3, layers: [vote]}",
    "layers: this is a list of at least one layer.": "layers: []",
    "layer 1: the layer is empty.": "layers: [[]]",
    "layer 1: it names 2 techniques (vote, rank)": "layers: [{vote: , rank: }]",
    "layer 1: a layer is {technique: {settings}}": "layers: [3]",
    "layer 1.vote: settings are a mapping, not a list.": "layers: [{vote: [1]}]",
    "layer 1.vote.after: a layer needs no 'after'": "layers: [{vote: {after: x}}]",
    "nodes: there is no node in it.": "nodes: {}",
    "nodes: 'nodes' is a mapping from a name to a node, not a list.": "nodes: [vote]",
    "nodes: the key 1 is no text; put it in quotes.": "nodes: {1: {use: vote}}",
    "nodes.a.b: 'a.b' is no name for a node": "nodes: {a.b: {use: vote}}",
    "nodes.a: it lacks 'use'": "nodes: {a: {model: m}}",
    "nodes.a: a node is a mapping": "nodes: {a: vote}",
    "nodes.b.after: there is no node 'aa'. Did you mean 'a'?": "nodes: {a: {use: vote}, b: {use: vote, after: aa}}",
    "nodes.b.after: 'a' stands there twice.": "nodes: {a: {use: vote}, b: {use: vote, after: [a, a]}}",
    "nodes.a.after: this is the name of a node or a list of names, not 3.": "nodes: {a: {use: vote, after: 3}}",
    "output: there is no node 'c'.": "{nodes: {a: {use: vote}}, output: c}",
    "several nodes end the graph (a, b); name the result with 'output'.": "nodes: {a: {use: vote}, b: {use: vote}}",
    "nodes.b: the output ('a') does not depend on it": "{nodes: {a: {use: vote}, b: {use: vote}}, output: a}",
    "nodes: b → a → b is a cycle": "nodes: {a: {use: vote, after: b}, b: {use: vote, after: a}}",
    "nodes: a → a is a cycle": "nodes: {a: {use: vote, after: a}}",
    "nodes: b → c → b is a cycle": (
        "{nodes: {a: {use: vote}, b: {use: vote, after: c}, c: {use: vote, after: b}}, output: a}"
    ),
    "nodes.a.when: a condition is a mapping such as {agreement: {below: 0.67}}, not a float.": (
        "nodes: {a: {use: vote, when: 0.5}}"
    ),
    "nodes.a.when: the condition is empty.": "nodes: {a: {use: vote, when: {}}}",
    "nodes.a.when.x: there is no comparison 'under'.": "nodes: {a: {use: vote, when: {x: {under: 1}}}}",
    "nodes.a.when.x.below: this is a number, not 'one'.": "nodes: {a: {use: vote, when: {x: {below: one}}}}",
    "nodes.a.when.x: this is a mapping such as {below: 0.67}, not a int.": "nodes: {a: {use: vote, when: {x: 1}}}",
    "nodes.a.when: a condition compares with finite numbers.": "nodes: {a: {use: vote, when: {x: {below: .nan}}}}",
    "nodes.a.max: a loop needs a greatest number of rounds from 1 to 32, not 99.": (
        "nodes: {a: {use: loop, max: 99, body: [vote]}}"
    ),
    "nodes.a.max: a loop needs a greatest number of rounds from 1 to 32, not None.": (
        "nodes: {a: {use: loop, body: [vote]}}"
    ),
    "nodes.a: a loop needs a 'body'": "nodes: {a: {use: loop, max: 2}}",
    "nodes.a: there is no key 'untill'. Did you mean 'until'?": (
        "nodes: {a: {use: loop, max: 2, body: [vote], untill: {x: {below: 1}}}}"
    ),
    "nodes.a.body.layer 1.vot: there is no technique 'vot'": "nodes: {a: {use: loop, max: 2, body: [vot]}}",
    "nodes.a: a nested architecture needs one of": "nodes: {a: {use: architecture}}",
    "nodes.a: there is no key 'file'.": "nodes: {a: {use: architecture, file: x}}",
    "nodes.a.with: only a preset takes parameters.": "nodes: {a: {use: architecture, spec: [vote], with: {x: 1}}}",
    "nodes.a.path: this is a name, not a list.": "nodes: {a: {use: architecture, path: [x]}}",
    "nodes.a.path: ": "nodes: {a: {use: architecture, path: not-there.yaml}}",
    "nodes.a.preset: There is no preset 'singel'. Did you mean 'single'?": (
        "nodes: {a: {use: architecture, preset: singel}}"
    ),
    "line 1: this is no YAML: the key 'a' stands there twice.": "nodes: {a: {use: vote}, a: {use: vote}}",
    "line 1: this is no YAML: ": "layers: [",
}


@pytest.mark.parametrize(("message", "written"), list(WRONG.items()), ids=range(len(WRONG)))
def test_what_is_wrong_is_said_in_one_sentence_with_its_place(message: str, written: str, tmp_path: Path) -> None:
    file = text(tmp_path / "x.yaml", written)
    with pytest.raises(SpecError) as caught:
        load(file)
    said = str(caught.value)
    assert said.startswith(f"{file}: {message}")
    assert "\n" not in said


def test_a_union_is_explained_by_the_branch_that_was_meant() -> None:
    with pytest.raises(SpecError, match=r"layer 1\.generate\.model\.1: .*but it is 3"):
        parse([{"generate": {"model": ["a", 3]}}])


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="that is a folder"):
        load(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot be read as text"):
        load(tmp_path / "bytes.yaml")
    (tmp_path / "control.yaml").write_bytes(b"a: \x07")
    with pytest.raises(SpecError, match="this is no YAML"):
        load(tmp_path / "control.yaml")
    (tmp_path / "broken.json").write_text('{"layers": [}')
    with pytest.raises(SpecError, match="line 1, column 13: this is no JSON: expecting value"):
        load(tmp_path / "broken.json")


def test_only_presets_take_parameters(tmp_path: Path) -> None:
    file = text(tmp_path / "x.yaml", LAYERS)
    with pytest.raises(SpecError, match="only a preset takes parameters"):
        load(file, parameters={"model": "m"})


def test_load_takes_data_and_specs_as_well() -> None:
    loaded = load([{"generate": {"model": "m"}}])
    assert loaded.source == ""
    assert load(loaded.spec).id == loaded.id
    assert loaded.name == "architecture"
