"""Training documents: one prompt, rendered from the very templates the nodes use, and the reply to learn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evals.problems import EXACT, Family, Story, draw_story, match_steps
from evals.problems.base import LEVELS
from training.habits import JUDGE, JUDGE_REPAIR, MINI, NANO, HabitReader, Habits
from training.statements import holds, statements

if TYPE_CHECKING:
    from jinja2 import Environment

ModelName = Literal["nano", "mini", "judge"]
Role = Literal[
    "generate", "critique", "rank", "fuse", "refine", "verify_reason", "verify_verdict", "judge", "unit_tests",
    "unit_test_evaluate", "score",
]  # fmt: skip

HABITS: dict[ModelName, Habits] = {"nano": NANO, "mini": MINI, "judge": JUDGE}
SHARES: dict[ModelName, dict[Role, float]] = {
    "nano": {
        "generate": 0.73, "critique": 0.03, "rank": 0.04, "fuse": 0.02, "refine": 0.04, "verify_reason": 0.04,
        "verify_verdict": 0.02, "judge": 0.02, "unit_tests": 0.02, "unit_test_evaluate": 0.02, "score": 0.02,
    },
    "mini": {
        "generate": 0.73, "critique": 0.03, "rank": 0.04, "fuse": 0.02, "refine": 0.04, "verify_reason": 0.04,
        "verify_verdict": 0.02, "judge": 0.02, "unit_tests": 0.02, "unit_test_evaluate": 0.02, "score": 0.02,
    },
    "judge": {
        "generate": 0.03, "critique": 0.12, "rank": 0.18, "fuse": 0.14, "refine": 0.08, "verify_reason": 0.16,
        "verify_verdict": 0.03, "judge": 0.04, "unit_tests": 0.02, "unit_test_evaluate": 0.04, "score": 0.16,
    },
}  # fmt: skip
"""What part of a model's documents each role has."""

PROMPTS = Path(__file__).parent.parent / "nodes" / "prompts" / "compact"
MOST_CANDIDATES = 10
_MENDED_UNTOLD = 0.35
"""Chance that refine mends a wrong solution that comes without a critique."""
_CORRUPTED = 0.10


@dataclass(frozen=True, kw_only=True)
class Document:
    """A question, the prompt it stands in (at its start), and the reply."""

    role: Role
    question: str
    prompt: str
    reply: str
    believed: tuple[str, ...]
    """The solution that the model takes for right."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A candidate as the templates show it."""

    n: int
    text: str
    critique: str | None = None


@dataclass(kw_only=True)
class Desk:
    """What a model has before it when a document is written: the story and the solution that it believes in."""

    model: ModelName
    family: Family
    story: Story
    rng: random.Random
    believed: tuple[str, ...]
    """The judge knows the exact solution; nano and mini believe in their own misconceptions, without the slips."""

    def candidate(self, writers: tuple[Habits, ...] = (NANO, MINI)) -> str:
        """Write a solution with the habits of one of the writers, now and then corrupted."""
        rng = self.rng
        habits = rng.choice(writers).of(self.family)
        reader = HabitReader(habits=habits, rng=rng, temperature=rng.choice((0.7, 1.0)))
        lines = self.story.solve(EXACT if rng.random() < 0.05 else reader)
        return "\n".join(corrupted(lines, rng) if rng.random() < _CORRUPTED else lines)

    def candidates(self, fewest: int) -> list[str]:
        """Write several by one model or both, eight and four more often than other counts."""
        writers = self.rng.choice(((NANO,), (MINI,), (NANO, MINI)))
        count = self.rng.choice((4, 8, 8, self.rng.randint(fewest, MOST_CANDIDATES)))
        return [self.candidate(writers) for _ in range(count)]

    def right_steps(self, text: str) -> int:
        """Count the steps before the first one that the model takes for wrong."""
        return sum(match_steps(self.believed, text))

    def is_right(self, text: str) -> bool:
        """Say whether the model takes the whole solution for right."""
        return self.right_steps(text) == len(self.believed)

    def remark(self, text: str) -> str:
        """Write the critique of one candidate."""
        if self.is_right(text):
            return "right"
        lines = text.splitlines()
        step = min(self.right_steps(text), len(lines) - 1)
        return f"wrong at step {step + 1}: {lines[step]}"

    def shown(self, texts: list[str], *, critiques: bool) -> list[Shown]:
        """Number the candidates, with a critic's remarks of which one in ten is mistaken."""
        if not critiques:
            return [Shown(n=n, text=text) for n, text in enumerate(texts, 1)]
        remarks = [self.remark(text) for text in texts]
        for place, text in enumerate(texts):
            if self.rng.random() < 0.1:
                lines = text.splitlines()
                step = self.rng.randrange(len(lines))
                remarks[place] = f"wrong at step {step + 1}: {lines[step]}" if remarks[place] == "right" else "right"
        return [Shown(n=n, text=t, critique=r) for n, (t, r) in enumerate(zip(texts, remarks, strict=True), 1)]


def corrupted(lines: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """Spoil a solution in a way that is no habit: a lost, doubled or altered line."""
    place = rng.randrange(len(lines))
    line = lines[place]
    match rng.randrange(4):
        case 0 if len(lines) > 2 and place < len(lines) - 1:
            return lines[:place] + lines[place + 1 :]
        case 1 if place < len(lines) - 1:
            return lines[: place + 1] + lines[place:]
        case 2:
            for old, new in ((" + ", " - "), (" - ", " + "), (" * ", " + "), (" / ", " - ")):
                if old in line:
                    return (*lines[:place], line.replace(old, new), *lines[place + 1 :])
    digits = [i for i, c in enumerate(line) if c.isdigit()]
    spot = rng.choice(digits)
    return (*lines[:place], line[:spot] + str(rng.randint(0, 9)) + line[spot + 1 :], *lines[place + 1 :])


def _generate(desk: Desk) -> tuple[dict[str, object], str]:
    reader = HabitReader(habits=HABITS[desk.model].of(desk.family), rng=desk.rng)
    return {}, "\n".join(desk.story.solve(reader))


def _critique(desk: Desk) -> tuple[dict[str, object], str]:
    texts = desk.candidates(1)
    reply = "\n".join(f"[{n}] {desk.remark(text)}" for n, text in enumerate(texts, 1))
    return {"candidates": desk.shown(texts, critiques=False)}, reply


def _rank(desk: Desk) -> tuple[dict[str, object], str]:
    texts = desk.candidates(2)
    verdicts = [desk.is_right(text) for text in texts]
    scratch = " ".join(f"[{n}] {'right' if right else 'wrong'}" for n, right in enumerate(verdicts, 1))
    order = sorted(range(len(texts)), key=lambda place: not verdicts[place])
    ranking = " > ".join(f"[{place + 1}]" for place in order)
    shown = desk.shown(texts, critiques=desk.rng.random() < 0.3)
    return {"candidates": shown, "keep": desk.rng.randint(1, len(texts))}, f"{scratch}\nRanking: {ranking}"


def _fuse(desk: Desk) -> tuple[dict[str, object], str]:
    texts = desk.candidates(1)
    best = max(texts, key=desk.right_steps)
    return {"candidates": desk.shown(texts, critiques=desk.rng.random() < 0.3)}, best


def _refine(desk: Desk) -> tuple[dict[str, object], str]:
    text = desk.candidate()
    shown = desk.shown([text], critiques=desk.rng.random() < 0.6)[0]
    untold = shown.critique is None and desk.rng.random() >= _MENDED_UNTOLD
    if desk.is_right(text) or untold:
        reply = text
    else:
        habits = JUDGE_REPAIR if desk.model == "judge" else HABITS[desk.model].of(desk.family)
        reader = HabitReader(habits=habits, rng=desk.rng, faithful_steps=desk.right_steps(text) + 1)
        reply = "\n".join(desk.story.solve(reader))
    return {"candidate": text, "critique": shown.critique}, reply


def _verify_reason(desk: Desk) -> tuple[dict[str, object], str]:
    text = desk.candidate()
    return {"candidate": text}, _reasoning(desk, text)


def _reasoning(desk: Desk, text: str) -> str:
    right, steps = desk.right_steps(text), len(text.splitlines())
    lines = [f"step {step}: right" for step in range(1, right + 1)]
    if not desk.is_right(text):
        lines.append(f"step {min(right + 1, steps)}: wrong")
        if right < len(desk.believed):
            lines[-1] += f", should be {desk.believed[right]}"
    return "\n".join(lines)


def _verify_verdict(desk: Desk) -> tuple[dict[str, object], str]:
    text = desk.candidate()
    verdict = "correct" if desk.is_right(text) else "incorrect"
    return {"candidate": text, "reasoning": _reasoning(desk, text)}, f"Verdict: {verdict}"


def _judge(desk: Desk) -> tuple[dict[str, object], str]:
    text = desk.candidate()
    score = 9 if desk.is_right(text) else 1 + min(4, 5 * desk.right_steps(text) // len(desk.believed))
    return {"candidate": text}, f"Score: {score}"


def _unit_tests(desk: Desk) -> tuple[dict[str, object], str]:
    count = desk.rng.choice((1, 2, 3, 3, 4, 5, 5))
    found = statements(desk.story.question, desk.believed)[:count]
    return {"count": count}, "\n".join(f"{n}. {text}" for n, text in enumerate(found, 1))


def _unit_test_evaluate(desk: Desk) -> tuple[dict[str, object], str]:
    rng = desk.rng
    found = statements(desk.story.question, desk.believed)
    if rng.random() < 0.3:
        found += (f"It {rng.choice(('adds', 'subtracts', 'never uses'))} {rng.randint(2, 40)}.",)
    tests = rng.sample(found, rng.randint(1, min(5, len(found))))
    text = desk.candidate()
    verdicts = [f"{n}. [{'Passed' if holds(test, text) else 'Failed'}]" for n, test in enumerate(tests, 1)]
    return {"candidate": text, "tests": tests}, "\n".join(verdicts)


def _score(desk: Desk) -> tuple[dict[str, object], str]:
    text = desk.candidate()
    lines = text.splitlines()
    if desk.rng.random() < 0.6:
        lines = lines[: desk.rng.randint(1, len(lines))]
    right = desk.is_right(text) if len(lines) == len(text.splitlines()) else desk.right_steps(text) >= len(lines)
    return {"partial": "\n".join(lines)}, " yes" if right else " no"


_WRITERS: dict[Role, Callable[[Desk], tuple[dict[str, object], str]]] = {
    "generate": _generate,
    "critique": _critique,
    "rank": _rank,
    "fuse": _fuse,
    "refine": _refine,
    "verify_reason": _verify_reason,
    "verify_verdict": _verify_verdict,
    "judge": _judge,
    "unit_tests": _unit_tests,
    "unit_test_evaluate": _unit_test_evaluate,
    "score": _score,
}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(PROMPTS)
    return Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)


def rendered(role: Role, variables: dict[str, object]) -> str:
    """Render a template of the style `compact` as the nodes do."""
    return _environment().get_template(f"{role}.jinja").render(variables).strip()


def make_document(model: ModelName, rng: random.Random) -> Document:
    """Write one training document for a model: a role by its share, a story of the training split, a reply."""
    shares = SHARES[model]
    role = rng.choices(list(shares), weights=list(shares.values()))[0]
    family: Family = "arithmetic" if rng.random() < 0.5 else "dates"
    story = draw_story(family, "train", rng.choice(LEVELS), rng)
    own = HabitReader(habits=HABITS[model].of(family), rng=rng, slips=False)
    believed = story.solve(EXACT if model == "judge" else own)
    desk = Desk(model=model, family=family, story=story, rng=rng, believed=believed)
    variables, reply = _WRITERS[role](desk)
    prompt = rendered(role, {"question": story.question, **variables})
    return Document(role=role, question=story.question, prompt=prompt, reply=reply, believed=believed)
