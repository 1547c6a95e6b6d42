"""Recorded outputs as models."""

from __future__ import annotations

import gzip
from pathlib import Path

import orjson
import pytest

from db.errors import DataError
from providers import Gateway, ModelBook
from providers.base import Message, Sampling, WireRequest
from providers.errors import BadRequest
from providers.models import ReplaySource
from providers.replay import ReplayTransport
from tests.providers.asking import request, scope


def wire(question: str, *indices: int, model: str = "m") -> WireRequest:
    messages = (Message("system", "Be brief."), Message("user", question), Message("assistant", "So"))
    return WireRequest(model=model, messages=messages, sampling=Sampling(), indices=indices, seeds=indices)


def source(
    tmp_path: Path, *rows: object, text: tuple[str | int, ...] = ("text",), name: str = "r.jsonl"
) -> ReplaySource:
    lines = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    return ReplaySource(path=tmp_path / name, text=text)


@pytest.mark.parametrize(
    ("row", "text", "samples"),
    [
        ({"text": "one"}, ("text",), ["one"]),
        ({"texts": ["one", "two"]}, ("texts",), ["one", "two"]),
        (
            {"out": {"m": {"samples": [{"t": "one"}, {"t": "two"}]}}},
            ("out", "{model}", "samples", "*", "t"),
            ["one", "two"],
        ),
        ({"pairs": [["m", "one"]]}, ("pairs", 0, 1), ["one"]),
    ],
)
async def test_paths_lead_to_samples(
    tmp_path: Path, row: dict[str, object], text: tuple[str | int, ...], samples: list[str]
) -> None:
    transport = ReplayTransport(source(tmp_path, {"question": "q", **row}, text=text))
    reply = await transport.complete(wire("q", *range(len(samples))))
    assert [completion.text for completion in reply.completions] == samples
    first = reply.completions[0].usage
    assert first.estimated
    assert first.prompt_tokens > 0
    assert all(completion.usage.prompt_tokens == 0 for completion in reply.completions[1:])
    with pytest.raises(BadRequest, match=rf"holds {len(samples)} samples of 'm'.*sample number {len(samples) + 1}"):
        await transport.complete(wire("q", len(samples)))


async def test_what_was_not_recorded_is_refused(tmp_path: Path) -> None:
    path = source(
        tmp_path, {"question": "q", "out": {"m": "x", "broken": [1]}}, text=("out", "{model}"), name="r.jsonl.gz"
    )
    transport = ReplayTransport(path)
    with pytest.raises(BadRequest, match="does not hold the question 'other"):
        await transport.complete(wire("other " * 40, 0))
    for model in ("nobody", "broken"):
        with pytest.raises(BadRequest, match=f"holds no text of '{model}' for this question \\(under out/{{model}}"):
            await transport.complete(wire("q", 0, model=model))
    assert await transport.list_models() == ("broken", "m")
    assert await ReplayTransport(source(tmp_path, {"question": "q"}, text=("a", 3))).list_models() == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"question": "q"}\n{nonsense\n', "r.jsonl, line 2: not valid JSON"),
        (b'{"question": "q"}\n\n{"text": "x"}\n', "line 3: has no text under 'question'"),
        (b"[1]\n", "line 1"),
        (b"\n", "holds no questions"),
    ],
)
async def test_a_recording_that_is_wrong_names_the_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "r.jsonl").write_bytes(content)
    transport = ReplayTransport(ReplaySource(path=tmp_path / "r.jsonl"))
    with pytest.raises(DataError, match=said):
        await transport.complete(wire("q", 0))


async def test_a_recording_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl is not there; correct 'replay.path'"):
        ReplayTransport(ReplaySource(path=tmp_path / "none.jsonl"))
    (tmp_path / "r.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="cannot be read"):
        await ReplayTransport(ReplaySource(path=tmp_path / "r.jsonl.gz")).complete(wire("q", 0))


async def test_through_the_gateway_a_failure_is_a_failure_and_a_bad_file_an_error(tmp_path: Path) -> None:
    source(tmp_path, {"question": "q", "text": ["a", "b"]})
    (tmp_path / "models.yaml").write_text("models:\n  m: {transport: replay, replay: {path: r.jsonl}}\n")
    async with Gateway(ModelBook.load(tmp_path / "models.yaml", {}), None) as gateway:
        asked = await gateway.ask(request("q"), 3, scope=scope(), node="a")
        assert asked.samples == ()
        assert len(asked.failures) == 3
        asked = await gateway.ask(request("q"), 2, scope=scope("2"), node="a")
        assert [sample.completion.text for sample in asked.samples] == ["a", "b"]
    (tmp_path / "r.jsonl").write_text("{")
    async with Gateway(ModelBook.load(tmp_path / "models.yaml", {}), None) as gateway:
        with pytest.raises(DataError, match="line 1"):
            await gateway.ask(request("q"), scope=scope(), node="a")


async def test_the_real_recording_of_gsm8k(data: Path, tmp_path: Path) -> None:
    file = data / "gsm8k_models" / "outputs.jsonl.gz"
    (tmp_path / "models.yaml").write_text(
        'models:\n  "recorded/*":\n    transport: replay\n'
        '    replay: {path: "${FOLDER}/outputs.jsonl.gz", text: [outputs, "{model}", text]}\n'
    )
    with gzip.open(file, "rb") as lines:
        rows = [orjson.loads(line) for line in lines]
    book = ModelBook.load(tmp_path / "models.yaml", {"FOLDER": str(file.parent)})
    models = list(rows[0]["outputs"])
    async with Gateway(book, None) as gateway:
        for row in rows[:50]:
            for model in models:
                asked = await gateway.ask(request(row["question"], model=f"recorded/{model}"), scope=scope(), node="a")
                assert asked.samples[0].completion.text == row["outputs"][model]["text"]
    assert len(models) == 18
