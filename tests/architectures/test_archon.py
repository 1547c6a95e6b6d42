"""Archon's published configurations import unchanged, and what is different in them is said by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from architectures import Imported, compile_architecture, load, load_archon, plan
from architectures.archon import is_archon
from architectures.spec import TechniqueNode
from db.errors import SpecError
from nodes.base import exactly
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.models import ModelSpec
from providers.scope import Scope
from providers.testing_server import ModelServer
from tests.architectures.support import answer_well, book_at

Component = dict[str, Any]


def component(kind: str, model: str = "m", provider: str = "Together_API", **settings: Any) -> Component:
    base = {"type": kind, "model": model, "model_type": provider, "temperature": 0.7, "max_tokens": 2048, "samples": 1}
    return {**base, **settings}


GENERATOR = component("generator")
CRITIC = component("critic")
FUSER = component("fuser")
RANKER = component("ranker", top_k=5)


def imported(*layers: object, **top: Any) -> Imported:
    return load_archon(json.dumps({"name": "x", "layers": list(layers), **top}))


def written(found: Imported) -> list[tuple[str, dict[str, Any]]]:
    return [
        (node.use, node.settings.model_dump(exclude_defaults=True))
        for node in found.spec.nodes
        if isinstance(node, TechniqueNode)
    ]


def refused(*layers: object) -> str:
    with pytest.raises(SpecError) as caught:
        imported(*layers)
    return str(caught.value)


def any_model(*names: str, url: str = "http://127.0.0.1:9/v1") -> ModelBook:
    return book_at(url, *names)


def test_all_published_configurations_import_check_compile_and_plan(shared_data: Path, tmp_path: Path) -> None:
    with gzip.open(shared_data / "archon_configs" / "configs.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(rows) == 80
    book = ModelBook(env={})
    for row in rows:
        file = tmp_path / "config.json"
        file.write_text(row["text"], encoding="utf-8")
        architecture = load(file, book)
        foretold = plan(architecture.spec, book, 200)
        compile_architecture(architecture.spec, book)
        assert foretold.total.calls == exactly(_calls(json.loads(row["text"]))), row["path"]
        assert architecture.name == json.loads(row["text"])["name"]


def _calls(config: dict[str, Any]) -> int:
    """Count the calls of a configuration straight from the paper's table of components."""
    calls = candidates = 0
    for layer in config["layers"]:
        members = layer["models"] if isinstance(layer, dict) else layer
        made = 0
        for member in members:
            kind, samples = member["type"], member.get("samples", 1)
            if kind in ("generator", "fuser"):
                calls, made = calls + samples, made + samples
            elif kind == "ranker":
                pairwise = "PairRM" in member["model"] and member["model"].startswith("llm-blender")
                calls += candidates * (candidates - 1) if pairwise else int(candidates > 1)
                made = min(candidates, member["top_k"])
            elif kind == "unit_test_evaluator":
                calls, made = calls + candidates, min(candidates, member.get("top_k") or 1)
            elif kind == "verifier":
                calls, made = calls + 2 * candidates, candidates
            else:
                calls, made = calls + 1, candidates
        candidates = made
    return calls


def test_every_component_type_has_its_technique() -> None:
    found = imported(
        [component("unit_test_generator", unit_test_cap=7)],
        [component("generator", samples=4)],
        [component("unit_test_evaluator", top_k=3, remove_unit_tests_from_prompt=True)],
        [CRITIC],
        [RANKER],
        [component("verifier")],
        [component("fuser", samples=2)],
    )
    asking = {"model": "together_ai/m", "temperature": 0.7, "max_tokens": 2048}
    assert written(found) == [
        ("unit_test_generate", {**asking, "count": 7}),
        ("generate", {**asking, "samples": 4, "show_tests": True}),
        ("unit_test_evaluate", {**asking, "keep": 3}),
        ("critique", asking),
        ("rank", {**asking, "keep": 5}),
        ("verify", asking),
        ("fuse", {**asking, "samples": 2}),
    ]


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("Together_API", "together_ai/m"),
        ("OpenAI_API", "openai/m"),
        ("Anthropic_API", "anthropic/m"),
        ("Google_API", "gemini/m"),
        ("Groq_API", "groq/m"),
        ("Bedrock_API", "bedrock/m"),
        ("vLLM", "vllm/m"),
        ("", "m"),
    ],
)
def test_providers_become_prefixes_that_resolve(provider: str, name: str) -> None:
    found = imported([component("generator", provider=provider)])
    (node,) = found.spec.nodes
    assert isinstance(node, TechniqueNode)
    assert node.settings.models() == (name,)
    assert found.notes == ()
    if provider:
        assert isinstance(ModelBook(env={}).resolve(name), ModelSpec)


def test_an_unknown_provider_is_an_alias_to_be_defined() -> None:
    found = imported([component("generator", provider="tgi")])
    assert found.notes == (
        "model_type 'tgi' is no known provider; 'm' is taken for an alias, to be defined in models.yaml.",
    )


def test_components_that_differ_in_their_model_alone_become_one_node() -> None:
    layer = [component("generator", model=name) for name in "abc"]
    other = component("generator", model="d", samples=5)
    found = imported([*layer, other, component("generator", model="e")], [FUSER])
    assert [(use, settings["model"]) for use, settings in written(found)] == [
        ("generate", ("together_ai/a", "together_ai/b", "together_ai/c")),
        ("generate", "together_ai/d"),
        ("generate", "together_ai/e"),
        ("fuse", "together_ai/m"),
    ]


def test_the_legacy_form_with_branches_is_read() -> None:
    found = imported({"branches": 1, "models": [GENERATOR]}, {"branches": 2, "models": [FUSER], "extra": 1})
    assert [use for use, _ in written(found)] == ["generate", "fuse"]
    assert found.notes == (
        "layer 2: 'branches: 2' is left out, as Archon's released code leaves it; "
        "'samples' says how many candidates each component makes.",
        "layer 2: the key 'extra' is unknown and left out.",
    )


def test_misspelt_idle_and_unknown_keys_are_named() -> None:
    found = imported(
        [component("generator", top_k=1, no_system=True, checkpoint="c", mood="good")],
        [component("fuser", length_contorl=True)],
        tone="dry",
    )
    assert found.notes == (
        "the key 'tone' of the configuration is unknown and left out.",
        "layer 1: 'checkpoint: c' of the generator is left out; nothing in Archon's code reads it.",
        "layer 1: the key 'mood' of the generator is unknown and left out.",
        "layer 2: 'length_contorl' is taken for 'length_control'.",
        "layer 2: 'length_control' of the fuser is left out; our fuse asks for no length.",
    )


def test_pairrm_becomes_a_pairwise_ranking_by_a_chat_model() -> None:
    pairrm = component("ranker", model="llm-blender/PairRM", ranker_batch_size=16, top_k=3)
    found = imported([component("generator", model="a", samples=4)], [pairrm], [FUSER])
    assert written(found)[1] == (
        "rank",
        {"model": "together_ai/a", "keep": 3, "max_tokens": 2048, "method": "pairwise"},
    )
    assert "PairRM is a trained ranker and no chat model" in found.notes[0]
    assert "'together_ai/a', the first generator's model" in found.notes[0]
    assert plan(found.spec, any_model("together_ai/a", "together_ai/m"), 10).total.calls == exactly(4 + 12 + 1)
    assert "no generator whose model could stand in" in refused([pairrm])


def test_one_reply_is_used_where_archon_uses_one() -> None:
    found = imported([GENERATOR], [component("critic", samples=3)], [FUSER])
    assert "layer 2: 'samples: 3' of the critic is left out; one reply is used." in found.notes


def test_critiques_are_used_as_the_ranker_says() -> None:
    found = imported([GENERATOR], [CRITIC], [component("ranker", top_k=2, use_critiques=False)], [FUSER])
    assert written(found)[2][1]["use_critiques"] is False


def test_the_evaluators_ways_to_keep() -> None:
    tests = [component("unit_test_generator")]

    def kept(**settings: Any) -> tuple[object, list[str]]:
        found = imported([GENERATOR], tests, [component("unit_test_evaluator", **settings)])
        node = written(found)[-1]
        return node[1].get("keep"), [note for note in found.notes if "evaluator" in note]

    assert kept(top_k=2) == (2, [])
    assert kept()[0] == "all"
    first, notes = kept(first_pass=True, top_k=4)
    assert first == 1
    assert "stops at the first 1 that pass all tests" in notes[0]
    assert kept(first_k=3)[0] == 3
    assert "shows them twice" in kept(top_k=1, remove_unit_tests_from_prompt=False)[1][0]
    capless = imported([GENERATOR], tests, [component("unit_test_evaluator", top_k=1)])
    assert "layer 2: the unit_test_generator has no 'unit_test_cap'" in capless.notes[0]


def test_a_verifier_that_would_stop_early_is_named() -> None:
    found = imported([GENERATOR], [component("verifier", first_k=2)], [FUSER])
    assert "layer 2: 'first_k: 2' of the verifier is left out; every candidate that passes goes on." in found.notes


def test_published_orders_that_bend_the_rules_import_with_warnings() -> None:
    tests, evaluator = component("unit_test_generator", unit_test_cap=5), component("unit_test_evaluator", top_k=1)
    found = imported([tests], [GENERATOR], [evaluator])
    assert found.notes == (
        "layer 1 writes unit tests, where the paper has generators first; the tests are shown to them.",
        "the evaluator in layer 3 does not directly follow the unit tests, as the paper asks for.",
    )
    shown = imported([tests], [GENERATOR], [RANKER], [FUSER]).notes
    assert any("where fuser, ranker would read them too" in note for note in shown)
    mixed = imported([GENERATOR], [CRITIC, RANKER], [FUSER]).notes
    assert "layer 2 mixes critic, ranker, where the paper has one component type a layer." in mixed
    twice = imported([GENERATOR], [CRITIC, CRITIC], [FUSER]).notes
    assert "layer 2 holds 2 components of type critic, where the paper has one." in twice
    again = imported([GENERATOR], [GENERATOR], [FUSER]).notes
    assert any("layer 2 holds generators after candidates were made" in note for note in again)
    ends = imported([GENERATOR], [CRITIC]).notes
    assert "the critiques of layer 2 are read by no ranker or fuser, as the paper asks for." in ends
    replaced = imported([GENERATOR], [CRITIC], [GENERATOR], [FUSER]).notes
    assert "the critiques of layer 2 are read by no ranker or fuser, as the paper asks for." in replaced


def test_critiques_of_an_earlier_round_stay_with_their_candidates() -> None:
    """A defect of the released code: critiques of old candidates are shown beside new ones."""
    found = imported([GENERATOR], [CRITIC], [FUSER, FUSER], [RANKER], [FUSER])
    assert [note for note in found.notes if "would be shown" in note] == [
        f"layer {number} would be shown the critiques of layer 2 beside candidates they were not written about; "
        "here a critique stays with its candidate."
        for number in (4, 5)
    ]
    assert not any("would be shown" in note for note in imported([GENERATOR], [CRITIC], [RANKER], [FUSER]).notes)


@pytest.mark.parametrize(
    ("layers", "several"),
    [
        ([[GENERATOR]], False),
        ([[GENERATOR, GENERATOR]], True),
        ([[component("generator", samples=2)]], True),
        ([[GENERATOR], [RANKER]], True),
        ([[GENERATOR], [component("ranker", top_k=1)]], False),
    ],
)
def test_several_candidates_at_the_end_are_warned_of(layers: list[object], several: bool) -> None:
    """A defect of the released code: the answer is drawn at random from what is left."""
    assert any("picks any of them" in note for note in imported(*layers).notes) is several


def test_what_is_truly_broken_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="line 1, column 2: this is no JSON: expecting property name"):
        load_archon("{layers: [}")
    assert refused({"branches": 1}) == "layer 1: a layer is a list of components, or a mapping with 'models'."
    assert refused(GENERATOR) == "layer 1: a layer is a list of components, or a mapping with 'models'."
    assert refused([[GENERATOR]]) == "layer 1.component 1: a component is a mapping with 'type' and 'model'."
    assert refused([]) == "layer 1: the layer is empty."
    assert refused([{"model": "m"}]) == "layer 1.component 1: the component lacks its 'type'."
    assert refused([{"type": "fuser"}]) == "layer 1.component 1: the fuser lacks its 'model'."
    assert refused([component("fusser")]) == (
        "layer 1.component 1: there is no component type 'fusser'. Did you mean 'fuser'?"
    )
    assert refused([component("generator", samples=0)]).startswith("layer 1.generate.samples: ")
    with pytest.raises(SpecError, match="this is a list of at least one layer"):
        load_archon('{"layers": []}')
    with pytest.raises(SpecError, match="is a mapping with 'layers'"):
        load_archon("[1]")
    file = tmp_path / "broken.json"
    file.write_text(json.dumps({"name": "b", "layers": [[GENERATOR], FUSER]}))
    with pytest.raises(SpecError) as caught:
        load(file)
    assert str(caught.value) == f"{file}: layer 2: a layer is a list of components, or a mapping with 'models'."


def test_archons_form_is_told_from_ours() -> None:
    assert is_archon({"layers": [[GENERATOR]]})
    assert is_archon({"layers": [{"models": [], "branches": 1}]})
    assert is_archon({"layers": [GENERATOR]})
    assert is_archon({"layers": [[[GENERATOR]]]})
    assert not is_archon({"layers": [[{"generate": {"model": "m"}}], "vote"]})
    assert not is_archon({"nodes": {}})
    assert not is_archon([{"generate": {"model": "m"}}])


def test_files_and_paths_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"layers": [[GENERATOR], [CRITIC]]}))
    assert load_archon(file).spec.name == load_archon(str(file)).spec.name == "config"
    assert all(warning.startswith(f"{file}: ") for warning in load(file).warnings)
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"layers": [{"generate": {"model": "m"}}]}))
    assert load(own).name == "own"


async def test_an_imported_configuration_runs_and_its_components_at_once(server: ModelServer) -> None:
    """Defects of the released code: components and candidates run one after the other, and callers' messages change."""
    found = imported(
        [component("unit_test_generator", provider="", unit_test_cap=3)],
        [component("generator", model=name, provider="", samples=2) for name in ("a", "b", "c")],
        [component("unit_test_evaluator", provider="", top_k=4)],
        [component("critic", provider="")],
        [component("ranker", provider="", top_k=2)],
        [component("fuser", provider="")],
    )
    server.latency_s = 0.2
    book = any_model("a", "b", "c", "m", url=server.url)
    scope = Scope("r", "i")
    async with Gateway(book, None) as gateway:
        outcome = await compile_architecture(found.spec, book).run("What is 5 + 5?", gateway=gateway, scope=scope)
    assert server.ledger.calls == plan(found.spec, book, "What is 5 + 5?").total.calls.low == 1 + 6 + 6 + 1 + 1 + 1
    assert outcome.state.question == "What is 5 + 5?"
    assert server.ledger.most_at_once == 6


async def test_one_failing_call_does_not_take_the_answer_along() -> None:
    """A defect of the released code: one failing step loses everything that was done."""
    async with ModelServer(reply=answer_well, script=["bad-request"]) as server:
        book = any_model("a", "b", "m", url=server.url)
        found = imported(
            [component("generator", model=name, provider="") for name in "ab"], [component("fuser", provider="")]
        )
        async with Gateway(book, None) as gateway:
            outcome = await compile_architecture(found.spec, book).run("q?", gateway=gateway, scope=Scope("r", "i"))
    assert len(outcome.candidate.parents) == 1
    assert [note.kind for note in outcome.state.notes] == ["call_failed"]
