"""Continuing: what techniques share that begin a reply themselves and let the model write on behind it."""

from __future__ import annotations

import re
from dataclasses import replace

from nodes.base import CallPlan, Context, Estimator, Range
from nodes.drawing import generate_variables
from nodes.settings import OneModel
from providers.base import Asked, Sampling

__all__ = ["Continuing", "prefix_tokens", "words_of"]

_WORD = re.compile(r"\w+")
_FRAME = 16
"""Most tokens that a chat format puts around the turn that is continued."""


class Continuing(OneModel):
    """A technique that asks for replies to the question which go on behind a beginning of its own."""

    def sampling_of(self, most: int | None) -> Sampling:
        """Return how tokens are drawn, at most so many."""
        return replace(self.sampling(), max_tokens=most)

    async def write(
        self,
        question: str,
        prefix: str,
        most: int | None,
        context: Context,
        *,
        n: int = 1,
        first: int | None = None,
        system: str | None = None,
    ) -> Asked:
        """Ask for n replies of at most `most` tokens behind a prefix; without one these are those of `generate`.

        `system` stands in place of the system message of the settings.
        """
        return await context.ask(
            self.model,
            "generate",
            generate_variables(question),
            n=n,
            sampling=self.sampling_of(most),
            first=first,
            system=system or self.system,
            prefix=prefix or None,
        )

    def foretell_written(
        self,
        estimator: Estimator,
        inserted: Range,
        calls: Range,
        most: int | None,
        *,
        n: int = 1,
        system: str | None = None,
    ) -> CallPlan:
        """Plan such replies, n in each request; `inserted` counts the question and the prefix."""
        return estimator.call(
            self.model,
            "generate",
            generate_variables(""),
            inserted=inserted,
            calls=calls,
            n=n,
            sampling=self.sampling_of(most),
            system=system or self.system,
        )


def prefix_tokens(text: str) -> Range:
    """Bound the tokens of a text of our own in front of a reply: at most one for each byte, and the turn around it."""
    size = len(text.encode())
    return Range(0, size / 4, size + _FRAME) if text else Range(0, 0, 0)


def words_of(*texts: str) -> frozenset[str]:
    """Name the words of texts, for `Technique.own_words`."""
    return frozenset(word for text in texts for word in _WORD.findall(text))
