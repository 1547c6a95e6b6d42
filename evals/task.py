"""What is evaluated: items, and the task that holds them together with the scorer of their answers."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from nodes.base import AnswerKind

if TYPE_CHECKING:
    from providers.gateway import Gateway
    from providers.scope import Scope

__all__ = ["Asking", "Item", "Parts", "Score", "ScoreStatus", "Scorer", "Task", "question_id"]

ScoreStatus = Literal["scored", "no_answer", "undecided", "judge_failed", "judge_unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question with its gold answer."""

    id: str
    """Unique in its task and the same in every run: the data's own id, or a hash of the question."""
    question: str
    gold: str
    """The right answer; the letter of the right choice where there are choices; empty where a judge needs none."""
    choices: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def prompt(self) -> str:
        """What an architecture is asked: the question, with its lettered choices below it."""
        if not self.choices:
            return self.question
        lines = (f"({letter}) {choice}" for letter, choice in zip(string.ascii_uppercase, self.choices, strict=False))
        return "\n".join((self.question, *lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a scorer says of one answer."""

    value: float
    """From 0 to 1."""
    correct: bool
    answer: str | None
    """The answer as it was read, in normal form; None where the reply states none."""
    reason: str
    """One clause for people."""
    source: str
    """The scorer's name."""
    status: ScoreStatus = "scored"


class Asking(NamedTuple):
    """What a scorer that asks a model needs; its calls are counted in a scope of their own."""

    gateway: Gateway
    scope: Scope


class Scorer(Protocol):
    """Scores one answer at a time; what it cannot read is scored 0 and said in `status`, never guessed."""

    @property
    def name(self) -> str:
        """The scorer with its settings, as it stands in results and in the task's digest."""
        ...

    @property
    def answer_kind(self) -> AnswerKind:
        """How the answers that it scores are extracted and compared."""
        ...

    def models(self) -> tuple[str, ...]:
        """Name the models that the scorer asks."""
        ...

    async def score(self, item: Item, text: str, asking: Asking | None = None) -> Score:
        """Score the final text of an architecture; raises `UserError`s, never for what a model wrote."""
        ...


class Parts(NamedTuple):
    """A task cut in two."""

    dev: Task
    held_out: Task


@dataclass(frozen=True, kw_only=True)
class Task:
    """A dataset with its scorer."""

    name: str
    items: tuple[Item, ...]
    scorer: Scorer

    @property
    def answer_kind(self) -> AnswerKind:
        """How the task's answers are extracted and compared."""
        return self.scorer.answer_kind

    @property
    def digest(self) -> str:
        """SHA-256 over items and scorer, in hex: two runs are on the same data where it is equal."""
        whole = hashlib.sha256(f"{self.name}\x00{self.scorer.name}".encode())
        for item in self.items:
            for part in (item.id, item.question, item.gold, *item.choices):
                whole.update(f"{len(part)}:{part}\x00".encode())
        return whole.hexdigest()

    def sample(self, n: int, seed: int = 0) -> Task:
        """Draw n items without replacement (all if fewer); with one seed a larger n extends a smaller one."""
        return replace(self, items=tuple(self._shuffled(seed)[:n]))

    def split(self, share: float = 0.2, seed: int = 0) -> Parts:
        """Cut off a share of the items for development by a hash of their ids, so that both parts never overlap.

        An item stays on its side when others are added or taken away. Raises `ValueError` for a share outside 0..1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"the share of a split lies between 0 and 1 (share={share})")
        dev = tuple(item for item in self.items if _fraction(item.id, seed) < share)
        rest = tuple(item for item in self.items if _fraction(item.id, seed) >= share)
        return Parts(replace(self, items=dev), replace(self, items=rest))

    def _shuffled(self, seed: int) -> Sequence[Item]:
        return sorted(self.items, key=lambda item: (_fraction(item.id, seed), item.id))


def question_id(question: str, choices: Sequence[str] = ()) -> str:
    """Make an item's id from its question and choices: `q-` and 16 hex digits."""
    whole = "\x1f".join((question, *choices)).encode()
    return f"q-{hashlib.sha256(whole).hexdigest()[:16]}"


def _fraction(item_id: str, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}\x00{item_id}".encode()).digest()[:8], "big") / 2**64
