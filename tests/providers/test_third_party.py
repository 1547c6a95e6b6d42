"""The transport in `examples/`, as an installed package: found by its entry point, and it keeps the contract."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers import Gateway, ModelBook
from providers.models import ModelSpec
from providers.registry import GROUP, _installed, make_transport
from providers.testing import Subject, TransportContract
from tests.providers.asking import request, scope

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_transport"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Do what an installer does: the module on the path, and beside it the metadata that pyproject.toml asks for."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {place}\n" for name, place in project["entry-points"][GROUP].items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(tmp_path))
    _installed.cache_clear()
    yield
    _installed.cache_clear()
    sys.modules.pop("colonnade_bigram", None)


class TestBigram(TransportContract):
    @pytest.fixture
    def subject(self, installed: None) -> Subject:
        spec = ModelSpec(name="proverbs", transport="bigram", model="proverbs")
        return Subject(
            transport=make_transport(spec, None),
            model="proverbs",
            unknown_model="sonnets",
            features=frozenset({"n", "stop", "seed"}),
        )


async def test_its_readme_is_true(installed: None, tmp_path: Path) -> None:
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    models, test = re.findall(r"```(?:yaml|python)\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "models.yaml").write_text(models, encoding="utf-8")
    async with Gateway(ModelBook.load(tmp_path / "models.yaml", {}), None) as gateway:
        await gateway.preflight(["proverbs"])
        asked = await gateway.ask(request("Say something wise.", model="proverbs"), 3, scope=scope(), node="n")
        texts = [sample.completion.text for sample in asked.samples]
        assert len(set(texts)) > 1
        assert all(text.endswith(" .") or len(text.split()) == 40 for text in texts)
        again = await gateway.ask(request("Say something wise.", model="proverbs"), 3, scope=scope("2"), node="n")
        assert [sample.completion.text for sample in again.samples] == texts
    names: dict[str, type[TransportContract]] = {}
    exec(compile(test, "README.md", "exec"), names)
    assert issubclass(names["TestBigram"], TransportContract)
