"""Nearness of texts by words and by vectors, and files that settings pin."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from db.errors import ColonnadeError, ConfigError, DataError
from nodes.base import Context, Estimator, NodePlan, Shape, State
from nodes.files import digest_of, load_once, pinned, still
from nodes.retrieval import Retrieving, WordIndex, nearest, words
from nodes.testing import Prompt, ScriptedContext
from providers.errors import Overloaded

TEXTS = ["Red cups in rows", "A king of old, a king indeed", "Rows of 12 cups and cups"]


class Bare(Retrieving):
    """Retrieval and nothing else."""

    async def run(self, state: State, context: Context) -> State:
        return state

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        return NodePlan((), shape)


def test_words_are_letters_or_numbers_in_small() -> None:
    assert words("Straße 12b, l'eau_x!") == ["strasse", "12", "b", "l", "eau", "x"]


def test_bm25_by_hand() -> None:
    index = WordIndex(["cup cup tray", "tray"])
    # N = 2, "cup" in one text: idf = ln(1 + 1.5 / 1.5); lengths 3 and 1, mean 2.
    expected = math.log(2) * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2))
    assert index.scores("a CUP") == pytest.approx([expected, 0.0])
    assert index.scores("cup cup") == pytest.approx([2 * expected, 0.0])
    assert WordIndex([]).scores("x") == []
    assert WordIndex(["", "…"]).scores("x") == [0.0, 0.0]


@given(st.lists(st.text(alphabet="ab ", max_size=8), min_size=1, max_size=5), st.text(alphabet="abc ", max_size=8))
@settings(max_examples=40)
def test_a_score_is_nought_exactly_where_no_word_is_shared(texts: list[str], query: str) -> None:
    for text, score in zip(texts, WordIndex(texts).scores(query), strict=True):
        assert (score > 0) == bool(set(words(text)) & set(words(query)))


def test_nearest_keeps_the_order_of_equals() -> None:
    assert nearest([1.0, 3.0, 3.0, 2.0], 3) == [1, 2, 3]
    assert nearest([1.0], 5) == [0]


def compare(context: ScriptedContext, model: str, texts: list[str], queries: tuple[str, ...] = ("red cups",)) -> object:
    return asyncio.run(Bare(by="embeddings", embedding_model=model).compare(context, queries, texts))


def test_vectors_of_texts_are_asked_for_once_and_again_where_the_model_has_changed() -> None:
    context = ScriptedContext(lambda prompt, index: "")
    first = compare(context, "once", TEXTS)
    assert [p.n for p in context.history] == [2, 2]  # the query with the first text, then the other texts
    again = compare(context, "once", TEXTS)
    assert [p.n for p in context.history] == [2, 2, 2]
    assert again == first
    assert first.scores[0].index(max(first.scores[0])) == 0  # type: ignore[attr-defined]  # a Compared

    class Changed(ScriptedContext):
        async def embed(self, model: str, texts: object) -> object:  # type: ignore[override]  # another model's vectors
            return await super().embed(model, [f"x {text}" for text in texts])  # type: ignore[attr-defined]

    changed = Changed(lambda prompt, index: "")
    compare(changed, "once", TEXTS)
    assert len(changed.history) == 2


def test_a_lone_text_needs_one_request() -> None:
    context = ScriptedContext(lambda prompt, index: "")
    compare(context, "lone", TEXTS[:1])
    assert [p.n for p in context.history] == [2]


def test_the_store_of_vectors_is_bounded() -> None:
    from nodes import retrieval

    context = ScriptedContext(lambda prompt, index: "")
    for number in range(retrieval._KEPT + 3):
        compare(context, f"bounded {number}", TEXTS[:1])
    assert len(retrieval._vectors) == retrieval._KEPT


@pytest.mark.parametrize("failing", [1, 2])
def test_where_vectors_fail_words_are_compared(failing: int) -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if len(context.history) == failing else ""

    context = ScriptedContext(script, node="here")
    found = compare(context, f"failing {failing}", TEXTS)
    assert found.scores == [WordIndex(TEXTS).scores("red cups")]  # type: ignore[attr-defined]  # a Compared
    assert [(n.kind, n.detail) for n in found.notes] == [  # type: ignore[attr-defined]  # a Compared
        ("call_failed", f"embed with failing {failing}: overloaded: 503"),
        ("fallback", "without vectors, texts are compared by their words"),
    ]


def test_vectors_need_a_model_and_a_local_one_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="by: local needs an embedding_model; name one, or take by: lexical"):
        Bare(by="local")
    node = Bare(by="local", embedding_model=str(tmp_path / "none"))
    assert node.embedders() == ()
    with pytest.raises(ConfigError, match="There is no folder"):
        asyncio.run(node.compare(ScriptedContext(lambda p, i: ""), ["x"], ["y"]))
    (tmp_path / "there").mkdir()
    there = Bare(by="local", embedding_model=str(tmp_path / "there"))
    if importlib.util.find_spec("sentence_transformers") is None:
        with pytest.raises(ConfigError, match=r"needs: pip install 'colonnade\[embed\]'"):
            asyncio.run(there.compare(ScriptedContext(lambda p, i: ""), ["x"], ["y"]))
    assert Bare(by="embeddings", embedding_model="v").required_of("v") == frozenset()


def test_a_file_is_read_again_only_where_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"one")
    read: list[bytes] = []

    def parse(content: bytes) -> bytes:
        read.append(content)
        if content == b"bad":
            raise DataError("line 1: bad.")
        return content

    assert load_once(file, parse) == load_once(str(file), parse) == b"one"
    assert read == [b"one"]
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert load_once(file, parse) == b"two"
    file.write_bytes(b"bad")
    with pytest.raises(DataError, match=r"f, line 1: bad\."):
        load_once(file, parse)


def test_digests_pin_files_and_say_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    assert digest_of(file) == "ba7816bf8f01cfea"
    assert pinned({"file": str(file)}, "file") == {"file": str(file), "file_sha256": "ba7816bf8f01cfea"}
    kept = {"file": "gone", "file_sha256": "1"}
    assert pinned(kept, "file") == kept
    assert pinned("text", "file") == "text"
    assert pinned({"file": None}, "file") == {"file": None}
    assert still(str(file), None) == still(str(file), "ba7816bf8f01cfea") == str(file)
    with pytest.raises(DataError, match="has changed since this architecture was made"):
        still(str(file), "0")
    with pytest.raises(ValueError, match="cannot be read"):
        pinned({"file": str(tmp_path / "gone")}, "file")
    with pytest.raises(DataError, match="is no plain file"):
        digest_of(tmp_path)
