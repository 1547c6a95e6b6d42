"""Bad input: one sentence that names the place and the cure, exit code 2, no traceback, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CommandResult
from tests.helpers import write_architecture, write_models, write_task

Cli = Callable[..., CommandResult]

GENERATE = "generate: {model: embedded/nano}"
DEAD = "http://127.0.0.1:9/v1"

ARCHITECTURES = {
    "unknown technique": ("layers: [generat: {model: embedded/nano}]", "generate"),
    "unknown key": ("layers: [generate: {model: embedded/nano, sample: 3}]", "samples"),
    "unknown model": ("layers: [generate: {model: embedded/mimi}]", "embedded/mini"),
    "a cycle": (
        "nodes: {a: {use: generate, model: embedded/nano, after: b}, b: {use: vote, after: a}}\noutput: b",
        "a",
    ),
    "a rank before any generate": ("layers: [rank: {model: embedded/judge}]", "rank"),
    "no YAML": ("layers: [generate: {model: ", "line"),
    "nothing": ("", "layers"),
}


def one_sentence(done: CommandResult) -> str:
    assert done.code == 2, done
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("Error: ")
    assert "Traceback" not in done.err
    return lines[0]


@pytest.mark.parametrize("command", ["run", "plan", "eval"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_architectures(cli: Cli, workplace: Path, kind: str, command: str) -> None:
    text, cure = ARCHITECTURES[kind]
    (workplace / "bad.yaml").write_text(text)
    more = ["What?"] if command == "run" else []
    said = one_sentence(cli(command, "bad.yaml", *more))
    assert "bad.yaml" in said
    assert cure in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "absent.yaml", "What?"), ("absent.yaml",)),
        (("run", "preset:singel", "What?"), ("single",)),
        (("run", "preset:single", "What?", "--set", "modl=x"), ("model",)),
        (("run", "preset:single", "What?", "--set", "model"), ("key=value",)),
        (("run", "preset:single", " "), ("empty",)),
        (("run", "preset:single", "What?", "--answer", "numerc"), ("numeric",)),
        (("run", "preset:single", "What?", "--cache", "of"), ("off",)),
        (("run", "preset:single", "What?", "--models", "absent.yaml"), ("absent.yaml",)),
        (("eval",), ("--resume",)),
        (("eval", "--resume", "e-none"), ("e-none",)),
        (("eval", "preset:single", "--task", "arithmetik"), ("arithmetic",)),
        (("eval", "preset:single", "--task", "absent.jsonl"), ("absent.jsonl",)),
        (("eval", "preset:single", "--task-option", "split"), ("key=value",)),
        (("eval", "preset:single", "--task-option", "splt=dev"), ("split",)),
        (("plan", "preset:single", "--question", "a", "--task", "arithmetic"), ("--question",)),
        (("compare", "e-1", "e-2"), ("e-1",)),
        (("runs", "show", "e-none"), ("e-none",)),
        (("techniques", "show", "rnk"), ("rank",)),
        (("models", "--models", "absent.yaml"), ("absent.yaml",)),
        (("graph", "preset:singel"), ("single",)),
    ],
)
def test_arguments(cli: Cli, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    said = one_sentence(cli(*arguments))
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("empty.jsonl", "", ("empty.jsonl",)),
        ("broken.jsonl", '{"question": "a", "gold": "1"}\n{"question": \n', ("broken.jsonl", "2")),
        ("column.jsonl", '{"frage": "a", "gold": "1"}\n', ("question", "frage")),
        ("column.csv", "frage,gold\na,1\n", ("question", "frage")),
        ("short.csv", "question,gold\na,1\nb\n", ("short.csv", "3")),
    ],
)
def test_data_files(cli: Cli, workplace: Path, name: str, text: str, words: tuple[str, ...]) -> None:
    (workplace / name).write_text(text)
    said = one_sentence(cli("eval", "preset:single", "--task", name))
    for word in words:
        assert word in said


def test_a_missing_key_variable(cli: Cli, workplace: Path) -> None:
    (workplace / "models.yaml").write_text(
        f"models: {{m: {{transport: openai, base_url: '{DEAD}', model: x, api_key_env: MY_SERVICE_TOKEN}}}}"
    )
    said = one_sentence(cli("run", write_architecture(workplace), "What?"))
    assert "MY_SERVICE_TOKEN" in said


def test_an_unreachable_endpoint(cli: Cli, workplace: Path) -> None:
    write_models(workplace, DEAD)
    for command in (["run", write_architecture(workplace), "What?"], ["eval", "vote.yaml", "--task", "task-3.jsonl"]):
        write_task(workplace, 3)
        said = one_sentence(cli(*command))
        assert DEAD in said


def test_a_model_without_logprobs_where_a_node_needs_them(cli: Cli, workplace: Path) -> None:
    (workplace / "models.yaml").write_text(
        f"models: {{m: {{transport: openai, base_url: '{DEAD}', model: x, capabilities: {{logprobs: false}}}}}}"
    )
    (workplace / "sure.yaml").write_text("layers: [generate: {model: m, samples: 3, top_logprobs: 0}, vote]")
    said = one_sentence(cli("run", "sure.yaml", "What?"))
    for word in ("logprobs", "'m'", "generate"):
        assert word in said


def test_a_dollar_cap_on_an_unpriced_model(cli: Cli, workplace: Path) -> None:
    (workplace / "models.yaml").write_text(f"models: {{m: {{transport: openai, base_url: '{DEAD}', model: x}}}}")
    said = one_sentence(cli("run", write_architecture(workplace), "What?", "--budget-dollars", "1"))
    assert "price" in said


def test_a_key_in_the_file_is_refused_and_not_repeated(cli: Cli, workplace: Path) -> None:
    secret = "sk-planted-0123456789abcdef"
    (workplace / "models.yaml").write_text(f"models: {{m: {{transport: openai, model: x, api_key: {secret}}}}}")
    said = one_sentence(cli("run", write_architecture(workplace), "What?"))
    assert "api_key_env" in said
    assert secret not in said
