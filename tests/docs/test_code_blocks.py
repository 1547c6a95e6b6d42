"""Every code block of README.md and docs/ does what it says: Python runs, YAML loads, commands parse and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from architectures import load
from evals.tasks import registry as tasks
from evals.tasks.registry import task_names
from nodes import registry as techniques
from providers.book import ModelBook
from providers.registry import require_transport
from search import read_space
from tests.conftest import CommandResult
from tests.docs.blocks import Block, blocks_of

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/techniques").glob("*.md")),
]
READ_ONLY = {"mermaid", "text"}
CHECKED_ONLY = {"compare", "eval", "search", "serve", "serve-model", "watch"}
"""Commands that take more than a moment; `eval` and the like are run by the tests of the command line."""

Cli = Callable[..., CommandResult]


@pytest.fixture
def place(workplace: Path) -> Iterator[Path]:
    """A working directory with what a user has who follows the document from the repository's root."""
    shutil.copytree(ROOT / "examples", workplace / "examples")
    before, loaded, known = dict(os.environ), dict(techniques._loaded_files), set(task_names())
    yield workplace
    os.environ.clear()
    os.environ.update(before)
    # What a document registers is gone with it.
    for module in set(techniques._loaded_files) - set(loaded):
        del techniques._loaded_files[module]
        techniques._take_back(module)
    for name in set(task_names()) - known:
        del tasks._entries[name]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of(document: Path, place: Path, cli: Cli) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(document):
        where = f"{document.relative_to(ROOT)}, line {block.line}"
        try:
            _check(block, where, place, cli, names)
        except Exception as error:
            error.add_note(f"in the block at {where}")
            raise


def _check(block: Block, where: str, place: Path, cli: Cli, names: dict[str, object]) -> None:
    if block.mark == "not run":
        return
    if block.mark == "file":
        file = place / block.said
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.code, "utf-8")
        if block.language == "python":
            compile(block.code, where, "exec")
        # What a file holds is checked by the commands that use it.
        return
    if block.language in READ_ONLY:
        return
    match block.language:
        case "python":
            exec(compile(block.code, where, "exec"), names)  # the document's own code, as a reader would run it
        case "yaml":
            _load(block.code, place)
        case "toml":
            tomllib.loads(block.code)
        case "json":
            json.loads(block.code)
        case "" | "sh":
            for line in _lines(block.code):
                _command(line, cli)
        case other:
            raise AssertionError(f"nobody knows how to check a block of {other!r}; mark it 'text' or 'not run'")


def _load(text: str, place: Path) -> None:
    data = yaml.safe_load(text)
    if "parameters" in data:
        assert read_space(data).count().valid > 1
    elif "models" in data:
        file = place / "checked-models.yaml"
        file.write_text(text, "utf-8")
        book = ModelBook.load(file, {})
        assert book.names()
        for name in book.names():
            require_transport(book.resolve(name))
    elif "deployments" in data:
        from tests.flows.deployments_support import job_of

        assert all(job_of(deployment) for deployment in data["deployments"])
    elif "trigger" in data:
        from prefect.automations import AutomationCore

        assert AutomationCore.model_validate(data).actions
    elif {"layers", "nodes"} & set(data):
        assert load(data).warnings == ()
    else:
        raise AssertionError(f"this is no architecture, models file or space: {sorted(data)}")


def _lines(code: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", code)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def _command(line: str, cli: Cli) -> None:
    words = shlex.split(line, comments=True)
    before = dict(os.environ)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        os.environ[name] = value
    match words:
        case ["export", *pairs]:
            os.environ.update({name: value for name, _, value in (pair.partition("=") for pair in pairs)})
            return
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no target {target}"
        case ["python", script, *_]:
            assert (ROOT / script).is_file(), f"no script {script}"
        case ["pytest", *arguments]:
            # No plugin but the one that is needed: the others only take time to load.
            order = [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "pytest_asyncio.plugin",
                "-p",
                "no:cacheprovider",
                *arguments,
            ]
            lean = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            tested = subprocess.run(order, capture_output=True, text=True, check=False, env=lean)
            assert tested.returncode == 0, tested.stdout + tested.stderr
        case ["prefect", *arguments]:
            from prefect.cli._app import _app

            _app.parse_args(arguments, print_error=False, exit_on_error=False)
        case ["colonnade", *arguments]:
            _parses(arguments)
            if arguments[0] not in CHECKED_ONLY and not any(re.fullmatch(r"[A-Z][A-Z-]*", word) for word in arguments):
                done = cli(*arguments)
                assert done.code == 0, f"`{line}` ended with {done.code}: {done.err}"
        case _:
            raise AssertionError(f"nobody knows how to check `{line}`; mark the block 'not run'")
    os.environ.clear()
    os.environ.update(before)


def _parses(arguments: list[str]) -> None:
    """Parse a command line as far as its last option, without running it."""
    import typer
    from typer.core import TyperGroup

    from colonnade.cli import app

    command = typer.main.get_command(app)
    context = command.make_context("colonnade", list(arguments))
    while isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, f"no command {name}"
        command, context = found, found.make_context(name, rest, parent=context)


def test_a_command_line_is_parsed_to_its_end() -> None:
    _parses(["techniques", "show", "rank"])
    _parses(["eval", "preset:single", "--items", "3"])
    for wrong in (["eval", "a.yaml", "--itms", "3"], ["techniques", "shw", "rank"], ["compare"]):
        with pytest.raises(Exception, match=r"[Nn]o such|Missing"):
            _parses(wrong)


def test_every_document_is_looked_at() -> None:
    assert len(DOCUMENTS) > 10
    found = [block for document in DOCUMENTS for block in blocks_of(document)]
    fences = sum(document.read_text("utf-8").count("\n```") for document in DOCUMENTS)
    assert 2 * len(found) == fences, "a fence is not closed, is indented, or has a mark that is misspelt"


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_a_block_that_is_wrong_is_found(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {
        "sh": [
            "colonnade pln x.yaml",
            "colonnade techniques show votes",
            "colonnade run --bugdet-calls 3",
            "rm -r x",
            "prefect depoy",
        ],
        "yaml": ["layers: [generte]", "colour: red", "models: {m: {transport: opnai}}"],
        "python": ["import colonnade\ncolonnade.lod", "x ="],
        "toml": ["a ="],
        "rust": ["fn main() {}"],
    }
    for language, codes in wrong.items():
        for code in codes:
            with pytest.raises((Exception, SystemExit)):
                _check(Block(language, code, 1, None, ""), "here", tmp_path, cli, {})
