"""Spawning: a thread that spawns children and joins them, at whatever level it stands, and how replies are read."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from pydantic import Field

from nodes.base import Context, Note, Range
from nodes.calls import together
from nodes.calls_in_text import LONGEST_INPUT, clipped
from nodes.threads import Reply, Step, Threads, enclosed, found_out, step_blanks
from providers.base import Sample
from providers.errors import ProviderError

__all__ = ["Grown", "Round", "Spawned", "Spawning", "before_spawns", "read_result", "read_spawns"]

_NOTHING: Final = "(no result)"

_SPAWN = re.compile(
    r"^[ \t]*(?:[-•*][ \t]+|\d{1,2}[.)][ \t]+)?[*_`]*spawn(?:[ \t]+\d{1,2})?[*_`]*[ \t]*:[* \t]*([^\n]*)$",
    re.IGNORECASE | re.MULTILINE,
)
_RESULT = re.compile(r"^[^\w\n]*result[^\w\n:]*:[* \t]*(\S[^\n]*)$", re.IGNORECASE | re.MULTILINE)


class Spawned(NamedTuple):
    """The sub-tasks of a reply, and how many of them were too many."""

    tasks: tuple[str, ...]
    left_out: int


class Round(NamedTuple):
    """A reply that spawned, as the templates show it: what was said before, and the tasks with their results."""

    said: str
    steps: Sequence[Step]


class Grown(NamedTuple):
    """What a thread and its children came to."""

    end: Sample | None
    """The reply that concludes; None where a call of the thread failed, or it did not conclude."""
    first: int | None
    """The number of the sample that the thread's first call drew."""
    rounds: tuple[Round, ...]
    notes: list[Note]
    failures: list[ProviderError]
    spawned: int
    """Children of all levels below."""
    found: int
    """Those that reported."""

    @property
    def joins(self) -> int:
        """How often the thread spawned."""
        return len(self.rounds)


class Spawning(Threads):
    """A technique whose threads spawn children."""

    width: int = Field(default=4, ge=1, le=16, description="Most children of one spawning; further ones are left out.")
    joins: int = Field(default=2, ge=1, le=8, description="How often a thread may spawn before it has to conclude.")
    result_bytes: int = Field(
        default=600, ge=40, le=20_000, description="Most bytes of the result that a child reports; the rest is cut."
    )

    @abstractmethod
    async def work(self, task: str, level: int, first: int, context: Context, what: str) -> Grown:
        """Do a sub-task; at level 0 without children."""

    async def grow(
        self,
        context: Context,
        model: str,
        template: str,
        variables: Mapping[str, object],
        level: int,
        first: int | None,
        what: str,
    ) -> Grown:
        """Let a thread work until it concludes, fails, or spawns where it may not."""
        grown = Grown(None, first, (), [], [], 0, 0)
        while True:
            can_spawn = level > 0 and grown.joins < self.joins
            shown = {**variables, "rounds": grown.rounds, "can_spawn": can_spawn, "most": self.width}
            replied = await self.reply(context, model, template, shown, what=what, first=grown.first)
            grown = _after(grown, replied)
            if replied.sample is None:
                return grown
            spawned = self._read(replied.sample, can_spawn)
            # Who was never offered to spawn and reports a result has concluded, whatever the lines before it look like.
            reports = level == 0 and read_result(replied.sample.completion.text) is not None
            if reports or not spawned.tasks:
                return grown._replace(end=replied.sample)
            if not can_spawn:
                note = Note(context.node, "unparsed", f"{what} spawns where it has to conclude")
                return grown._replace(notes=[*grown.notes, note])
            grown = await self._join(grown, replied.sample, spawned, level, context, what)

    def _read(self, sample: Sample, can_spawn: bool) -> Spawned:
        return read_spawns(sample.completion.text, self.width if can_spawn else 1)

    async def _join(
        self, grown: Grown, sample: Sample, spawned: Spawned, level: int, context: Context, what: str
    ) -> Grown:
        first = sample.index if grown.first is None else grown.first
        children = await together(
            self.work(enclosed(task), level - 1, first, context, f"child {number} of {what}")
            for number, task in enumerate(spawned.tasks, 1)
        )
        results = [self._result(child, number, context, what) for number, child in enumerate(children, 1)]
        steps = [Step("", task, result) for task, (result, _) in zip(spawned.tasks, results, strict=True)]
        notes = [note for child, (_, own) in zip(children, results, strict=True) for note in (*child.notes, *own)]
        if spawned.left_out:
            over = f"{what} spawns {spawned.left_out} more than the {self.width} children of one spawning"
            notes.append(Note(context.node, "skipped", over))
        said = enclosed(before_spawns(sample.completion.text))
        return Grown(
            None,
            first,
            (*grown.rounds, Round(said, found_out(steps))),
            [*grown.notes, *notes],
            [*grown.failures, *(failure for child in children for failure in child.failures)],
            grown.spawned + len(children) + sum(child.spawned for child in children),
            grown.found + sum(child.found + (child.end is not None) for child in children),
        )

    def _result(self, child: Grown, number: int, context: Context, what: str) -> tuple[str, list[Note]]:
        if child.end is None:
            return _NOTHING, []
        text = child.end.completion.text
        result = read_result(text)
        if result is not None:
            return clipped(result, self.result_bytes), []
        note = Note(context.node, "unparsed", f"child {number} of {what} has no result line; its end is taken")
        return clipped(text, self.result_bytes, end=True) or _NOTHING, [note]

    def rounds_tokens(self, reply: Range) -> Range:
        """Foretell the tokens of what all rounds of a thread show."""
        children = self.joins * self.width
        return Range(
            0, reply.likely + self.width * self.result_bytes / 8, self.joins * reply.high + children * self.result_bytes
        )

    def blank_rounds(self, count: int) -> Mapping[str, object]:
        """Return what the templates show of so many rounds, all of them full; none is the last reply's prompt."""
        rounds = [Round("", step_blanks(self.width))] * count
        return {"rounds": rounds, "can_spawn": count > 0, "most": self.width}


def _after(grown: Grown, replied: Reply) -> Grown:
    first = replied.sample.index if replied.sample and grown.first is None else grown.first
    return grown._replace(
        first=first, notes=[*grown.notes, *replied.notes], failures=[*grown.failures, *replied.failures]
    )


def read_spawns(text: str, most: int) -> Spawned:
    """Read at most so many different sub-tasks of lines `Spawn: …`."""
    said = (match[1].strip("* \t") for match in _SPAWN.finditer(text))
    tasks = dict.fromkeys(clipped(task, LONGEST_INPUT) for task in said if any(letter.isalnum() for letter in task))
    return Spawned(tuple(tasks)[:most], max(0, len(tasks) - most))


def before_spawns(text: str) -> str:
    """Return what a reply says before its first line `Spawn: …`."""
    first = _SPAWN.search(text)
    return (text[: first.start()] if first else text).strip()


def read_result(text: str) -> str | None:
    """Read the last line `Result: …` of a reply; None where there is none."""
    found = [result.strip("* \t") for result in _RESULT.findall(text)]
    return found[-1] if found and found[-1] else None
