"""Probes: configured techniques with a state and well-formed replies, for the checks in `nodes.contract`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from db.errors import ColonnadeError
from nodes.base import Candidate, State, Technique
from nodes.describe import Description
from nodes.registry import describe, get, name_of
from nodes.testing import Prompt, Script, ScriptedContext
from providers.base import TokenLogprob

__all__ = ["QUESTION", "Probe", "example_nodes", "probes", "reply_in_format", "sample_state"]

QUESTION = "A tray holds 3 rows of 4 cups. How many cups does it hold?"


def sample_state() -> State:
    """Return a state that holds everything a technique may need: candidates with critiques, scores, verdicts; tests."""
    answers = ("12", "7", "12", "34")
    candidates = tuple(
        Candidate(
            id=f"draft:{number}",
            text=f"Way {number} of counting the cups.\nAnswer: {answer}",
            node="draft",
            model="fast",
            index=number - 1,
            critique=f"Point {number} is weak.",
            verdict=number % 2 == 1,
            mean_logprob=-number / 10,
            completion_tokens=10 + number,
            logprobs=tuple(TokenLogprob(token, -number / 10, ((token, -number / 10), ("?", -3.0))) for token in "ab"),
        ).scored("earlier", number / 10)
        for number, answer in enumerate(answers, 1)
    )
    return State(
        question=QUESTION, candidates=candidates, tests=("The answer states 12.", "The answer multiplies 3 by 4.")
    )


def reply_in_format(prompt: Prompt, index: int) -> str:
    """Reply to a prompt of the built-in techniques in the format that it asks for; anything else gets a plain text.

    A score is a number in 0..1 that follows from the text.
    """
    if reply := _FORMATS.get(prompt.template):
        return reply(prompt)
    if prompt.kind == "score":
        return str(len(prompt.text) % 10 / 10)
    return f"Sample {index} of {prompt.model}.\nAnswer: 12"


def _shown(prompt: Prompt, variable: str) -> int:
    value = prompt.variables[variable]
    return len(value) if isinstance(value, list) else 0


def _lines(number: int, line: str) -> str:
    return "\n".join(line.format(n=n) for n in range(1, number + 1))


_FORMATS: Mapping[str, Callable[[Prompt], str]] = {
    "critique": lambda prompt: _lines(_shown(prompt, "candidates"), "[{n}] Sound, but step {n} is unclear."),
    "rank": lambda prompt: "Ranking: " + " > ".join(f"[{n}]" for n in range(_shown(prompt, "candidates"), 0, -1)),
    "rank_pair": lambda prompt: "Better: [1]",
    "verify_verdict": lambda prompt: "[Correct]",
    "judge": lambda prompt: f"Score: {1 + len(prompt.text) % 10}",
    "unit_tests": lambda prompt: _lines(100, "{n}. The response states fact {n}."),
    "unit_test_evaluate": lambda prompt: _lines(_shown(prompt, "tests"), "{n}. [Passed]"),
}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A configured technique with a state to run it on and the replies that its models give."""

    technique: Technique
    state: State = field(default_factory=sample_state)
    script: Script = reply_in_format

    def __post_init__(self) -> None:
        if formats := dict(_example_replies(self.technique)):
            object.__setattr__(self, "script", _with(formats, self.script))

    def __str__(self) -> str:
        settings = self.technique.model_dump(mode="json", exclude_defaults=True)
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in settings.items())})"

    @property
    def name(self) -> str:
        """The technique's registered name."""
        return name_of(type(self.technique))

    def run(self, context: ScriptedContext, state: State | None = None) -> State:
        """Run the technique on its state, or on another."""
        return asyncio.run(self.technique.run(state or self.state, context))

    def answered(self) -> tuple[State, ScriptedContext]:
        """Run the technique with its script and return the result with the context's history."""
        context = ScriptedContext(self.script)
        return self.run(context), context


def _example_replies(part: object) -> Iterator[tuple[str, str | Callable[[Mapping[str, object]], str]]]:
    """Yield the replies that a technique gives as examples, and those of the scorers and techniques within it."""
    if isinstance(part, tuple):
        for one in part:
            yield from _example_replies(one)
    elif isinstance(part, BaseModel):
        yield from getattr(type(part), "example_replies", {}).items()
        for name in type(part).model_fields:
            yield from _example_replies(getattr(part, name))


def _with(formats: Mapping[str, str | Callable[[Mapping[str, object]], str]], script: Script) -> Script:
    def answer(prompt: Prompt, index: int) -> str | ColonnadeError:
        known = formats.get(prompt.template)
        if known is None:
            return script(prompt, index)
        return known if isinstance(known, str) else known(prompt.variables)

    return answer


def probes(name: str, *, replies: Mapping[str, str] | None = None) -> tuple[Probe, ...]:
    """Return a probe for each configuration of a technique in the example of its docstring.

    `replies` gives the reply to each template of the technique's own.
    """

    def script(prompt: Prompt, index: int) -> str:
        known = (replies or {}).get(prompt.template)
        return reply_in_format(prompt, index) if known is None else known

    nodes = example_nodes(describe(name))
    return tuple(Probe(technique=node, script=script) for node in nodes if isinstance(node, get(name)))


def example_nodes(description: Description) -> list[Technique]:
    """Return the configured techniques of the example in a docstring, in order.

    Raises what is wrong with it: YAML that cannot be read, an unknown technique, a setting that is refused.
    """
    import yaml

    text = description.sections["Example"].removeprefix("```yaml").removesuffix("```")
    document = yaml.safe_load(text)
    layers = document["layers"] if "layers" in document else list(document["nodes"].values())
    found = []
    for layer in layers:
        for entry in layer if isinstance(layer, list) else [layer]:
            if isinstance(entry, str):
                entry = {entry: None}
            if "use" in entry:
                settings = {key: value for key, value in entry.items() if key not in ("use", "after", "when")}
                entry = {entry["use"]: settings}
            found += [get(use).model_validate(settings or {}) for use, settings in entry.items()]
    return found
