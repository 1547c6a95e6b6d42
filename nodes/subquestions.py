"""Sub-questions: how they are answered, one after the other or side by side, and what is in view of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from nodes.base import Context, Note
from nodes.calls import together
from nodes.calls_in_text import EARLIER, clipped, levels, references
from nodes.shown import quoted
from nodes.threads import Reply, Step, Threads, enclosed, found_out
from providers.errors import ProviderError

__all__ = ["SubQuestions"]


class Answered(NamedTuple):
    steps: list[Step]
    """Sub-questions that were answered, in their order."""
    notes: list[Note]
    failures: list[ProviderError]


class SubQuestions(Threads):
    """A technique whose model answers sub-questions."""

    max_questions: int = Field(default=4, ge=1, le=16, description="Most sub-questions; further ones are left out.")
    order: Literal["chain", "references"] = Field(
        default="chain", description="Answer them one after the other, or side by side where they are independent."
    )
    answer_bytes: int = Field(
        default=2000, ge=200, le=100_000, description="Most bytes of a sub-question's answer; its end is kept."
    )

    async def answer_parts(self, question: str, parts: Sequence[str], first: int, context: Context) -> Answered:
        """Answer sub-questions; those whose call fails or brings no text are left out."""
        replies: dict[int, Reply] = {}
        for level in self._levels(parts):
            done = await together(
                self._ask(question, parts, place, self._seen(parts, place, replies), first, context) for place in level
            )
            replies = {**replies, **dict(zip(level, done, strict=True))}
        ordered = [replies[place] for place in range(len(parts))]
        return Answered(
            self._steps(parts, range(len(parts)), replies),
            [note for number, reply in enumerate(ordered, 1) for note in _notes(reply, number, context.node)],
            [failure for reply in ordered for failure in reply.failures],
        )

    def _levels(self, parts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Sort the places of the sub-questions into levels that are answered at the same time."""
        if self.order == "chain":
            return [[place] for place in range(len(parts))]
        # Only an earlier question can be waited for, so there is no circle.
        return levels({place: _earlier(parts[place], place) for place in range(len(parts))})

    def _seen(self, parts: Sequence[str], place: int, replies: Mapping[int, Reply]) -> list[Step]:
        places = range(place) if self.order == "chain" else _earlier(parts[place], place)
        return self._steps(parts, places, replies)

    def _steps(self, parts: Sequence[str], places: Sequence[int], replies: Mapping[int, Reply]) -> list[Step]:
        said = {place: (replies[place].text or "").strip() for place in places}
        return [
            # What a model concludes stands at the end.
            Step("", f"#{place + 1} {parts[place]}", clipped(text, self.answer_bytes, end=True))
            for place, text in said.items()
            if text
        ]

    async def _ask(
        self,
        question: str,
        parts: Sequence[str],
        place: int,
        seen: Sequence[Step],
        first: int,
        context: Context,
    ) -> Reply:
        variables = {"question": quoted(question), "steps": found_out(seen), "task": enclosed(parts[place])}
        what = f"sub-question {place + 1}"
        return await self.reply(context, self.model, "subtask", variables, what=what, first=first)


def _notes(reply: Reply, number: int, node: str) -> list[Note]:
    if reply.text is None or reply.text.strip():
        return reply.notes
    return [*reply.notes, Note(node, "unparsed", f"the answer to sub-question {number} is empty")]


def _earlier(part: str, place: int) -> tuple[int, ...]:
    """Return the places of the earlier sub-questions that one names."""
    return tuple(number - 1 for number in references(part, EARLIER) if 1 <= number <= place)
