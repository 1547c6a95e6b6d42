"""Retrieval: how near texts are to a query, by their words or by vectors of a model; the shared part of few-shot
prompting, memories and routers.

`lexical` is BM25 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009), which needs nothing.
`embeddings` asks an embedding model of `models.yaml`; the vectors of the texts are kept in the process, and a probe
with each query makes sure that they are of the same model. `local` runs a sentence-embedding model from a folder.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from db.errors import ConfigError
from nodes.base import CallPlan, Capability, Context, Estimator, Note, Range, Technique
from nodes.settings import ModelName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from providers.errors import ProviderError

__all__ = ["Compared", "Retrieving", "WordIndex", "nearest", "words"]

_WORD = re.compile(r"[^\W\d_]+|\d+")
_PROBE_TOLERANCE = 1e-4
_KEPT = 64
"""Collections of texts whose vectors are kept in the process."""


def words(text: str) -> list[str]:
    """Split a text into its words and numbers, folded to small letters."""
    return [word.casefold() for word in _WORD.findall(text)]


def nearest(scores: Sequence[float], k: int) -> list[int]:
    """Return the positions of the k highest scores, the highest first, equals in their order."""
    return sorted(range(len(scores)), key=lambda position: -scores[position])[:k]


class WordIndex:
    """Texts by their words, scored by BM25 with k1 = 1.2 and b = 0.75."""

    def __init__(self, texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        self.size = len(texts)
        counts = [Counter(words(text)) for text in texts]
        lengths = [count.total() for count in counts]
        mean = sum(lengths) / len(lengths) if lengths else 0.0
        found = Counter(word for count in counts for word in count)
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for position, count in enumerate(counts):
            length = 1 - b + b * lengths[position] / mean if mean else 1.0
            for word, times in count.items():
                idf = math.log(1 + (self.size - found[word] + 0.5) / (found[word] + 0.5))
                weight = idf * times * (k1 + 1) / (times + k1 * length)
                self._postings.setdefault(word, []).append((position, weight))

    def scores(self, query: str) -> list[float]:
        """Return the score of each text, at least 0; a text that shares no word with the query gets 0."""
        totals = [0.0] * self.size
        # Sorted, since the order of a sum decides its last digit, and equal scores must be equal.
        for word, times in sorted(Counter(words(query)).items()):
            for position, weight in self._postings.get(word, ()):
                totals[position] += times * weight
        return totals


class Compared(NamedTuple):
    """How near each text is to each query, one row a query, and notes of what failed; higher is nearer."""

    scores: list[list[float]]
    notes: list[Note]


class Retrieving(Technique):
    """A technique that retrieves: the settings of how, and the comparison itself."""

    by: Literal["lexical", "embeddings", "local"] = Field(
        default="lexical", description="What nearness is measured by: shared words, an embedding model, a local model."
    )
    embedding_model: ModelName | None = Field(
        default=None,
        description="For `embeddings` a model alias; for `local` (extra `embed`) the folder of a sentence model.",
    )

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if self.by != "lexical" and self.embedding_model is None:
            raise ValueError(f"by: {self.by} needs an embedding_model; name one, or take by: lexical")
        return self

    def embedders(self) -> tuple[str, ...]:
        """Name the model that gives the vectors, where one is asked."""
        return (self.embedding_model,) if self.by == "embeddings" and self.embedding_model else ()

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the node needs of its models; an embedding model needs nothing of what the others do."""
        return frozenset() if model in self.embedders() else super().required_of(model)

    async def compare(self, context: Context, queries: Sequence[str], texts: Sequence[str]) -> Compared:
        """Compare each query with each text; where vectors cannot be had, words are compared, and a note says so."""
        if not texts or not queries or self.by == "lexical" or self.embedding_model is None:
            return Compared(_by_words(queries, texts), [])
        if self.by == "local":
            return Compared(_cosines(_local(self.embedding_model, queries), _local(self.embedding_model, texts)), [])
        return await self._by_vectors(context, self.embedding_model, queries, texts)

    async def _by_vectors(self, context: Context, model: str, queries: Sequence[str], texts: Sequence[str]) -> Compared:
        key = (model, tuple(texts))
        # The first text goes along with the queries: where its vector is no longer the same, all are asked for anew.
        asked = await context.embed(model, [*queries, texts[0]])
        if asked.vectors is None:
            return self._words_instead(context, asked.failure, queries, texts)
        known = _vectors.get(key)
        if known is None or not _same(known[0], asked.vectors[-1]):
            if len(texts) > 1:
                rest = await context.embed(model, texts[1:])
                if rest.vectors is None:
                    return self._words_instead(context, rest.failure, queries, texts)
                known = _stacked(asked.vectors[-1], rest.vectors)
            else:
                known = asked.vectors[-1:]
            if len(_vectors) >= _KEPT:
                del _vectors[next(iter(_vectors))]
            _vectors[key] = known
        return Compared(_cosines(asked.vectors[:-1], known), [])

    def _words_instead(
        self, context: Context, failure: ProviderError | None, queries: Sequence[str], texts: Sequence[str]
    ) -> Compared:
        why = f"{failure.kind}: {failure}" if failure else "no vectors came"
        notes = [
            Note(context.node, "call_failed", f"embed with {self.embedding_model}: {why}"),
            Note(context.node, "fallback", "without vectors, texts are compared by their words"),
        ]
        return Compared(_by_words(queries, texts), notes)

    def foretell_compare(
        self, estimator: Estimator, queries: Range, query_tokens: Range, texts: Sequence[str]
    ) -> tuple[CallPlan, ...]:
        """Plan the vectors of the queries, and of the texts where they are not known yet."""
        if not texts or queries.high <= 0:
            return ()
        count = Range(
            *(query + extra if query else 0 for query, extra in zip(queries, (1, 1, len(texts)), strict=True))
        )
        sizes = [len(text.encode()) for text in texts]
        inserted = query_tokens.plus(Range(sizes[0] / 8, sizes[0] / 4, sum(sizes)))
        return tuple(estimator.embed(model, inserted=inserted, calls=count) for model in self.embedders())


_vectors: dict[tuple[str, tuple[str, ...]], NDArray[np.float32]] = {}


@lru_cache(maxsize=16)
def _index(texts: tuple[str, ...]) -> WordIndex:
    return WordIndex(texts)


def _by_words(queries: Sequence[str], texts: Sequence[str]) -> list[list[float]]:
    index = _index(tuple(texts))
    return [index.scores(query) for query in queries]


def _cosines(queries: NDArray[np.float32], texts: NDArray[np.float32]) -> list[list[float]]:
    import numpy as np

    # Row by row: a product of whole matrices may round differently with the number of rows.
    unit = texts / np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-12)
    return [(unit @ (query / max(float(np.linalg.norm(query)), 1e-12))).astype(float).tolist() for query in queries]


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    import numpy as np

    return one.shape == other.shape and bool(np.allclose(one, other, atol=_PROBE_TOLERANCE))


def _stacked(first: NDArray[np.float32], rest: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    return np.vstack([first[None, :], rest])


def _local(folder: str, texts: Sequence[str]) -> NDArray[np.float32]:
    return _local_vectors(folder, tuple(texts))


@lru_cache(maxsize=64)
def _local_vectors(folder: str, texts: tuple[str, ...]) -> NDArray[np.float32]:
    import numpy as np

    vectors = _local_model(folder).encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


@lru_cache(maxsize=2)
def _local_model(folder: str) -> _SentenceModel:
    import importlib
    from pathlib import Path

    if not Path(folder).is_dir():
        raise ConfigError(f"There is no folder {folder!r} with a sentence-embedding model; put one there.")
    try:
        library = importlib.import_module("sentence_transformers")
    except ImportError:
        raise ConfigError("A local sentence-embedding model needs: pip install 'colonnade[embed]'.") from None
    model: _SentenceModel = library.SentenceTransformer(folder, device="cpu", local_files_only=True)
    return model


if TYPE_CHECKING:
    from typing import Protocol

    class _SentenceModel(Protocol):
        """What is used of `sentence_transformers.SentenceTransformer`."""

        def encode(
            self, sentences: list[str], *, normalize_embeddings: bool, show_progress_bar: bool
        ) -> NDArray[np.float32]: ...
