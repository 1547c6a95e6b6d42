"""Medprompt on multiple choice: a judge with a liking for one place, and how shuffling the choices takes it out.

    python examples/medprompt.py

The model is played by a local server and is biased as real ones are: when it does not know the answer it takes the
choice that stands first. Asked once it is misled wherever the right choice stands elsewhere; asked with the choices in
five orders, its likings fall on different choices, and what it knows decides the vote. The examples before the question
are the nearest of those at hand, with their reasoning. Put a model of yours in `MODELS` and it answers in its place.
"""

# Prints: once       right 8 of 12
# Prints: medprompt  right 11 of 12

import asyncio
import random
import re
import tempfile
from pathlib import Path

import colonnade
from providers.testing_server import Asking, ModelServer

MODELS = "models: {{scripted: {{transport: openai, base_url: '{url}', price: {{prompt: 0, completion: 0}}}}}}"
ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibex", "jay", "koi", "lynx")
LEGS = (6, 6, 4, 4, 0, 4, 4, 2, 4, 2, 0, 4)
EXAMPLES = [
    {
        "question": f"How many legs has a {name}?\n(A) {legs}\n(B) 3\n(C) 5",
        "reasoning": f"A {name} has {legs}.",
        "answer": "A",
    }
    for name, legs in (("wasp", 6), ("cow", 4), ("owl", 2), ("carp", 0))
]


def question(place: int) -> tuple[str, str]:
    """Return a question with four choices, and the letter of the right one."""
    choices = [str(LEGS[place]), "1", "3", "5"]
    random.Random(place).shuffle(choices)
    lines = [f"({letter}) {choice}" for letter, choice in zip("ABCD", choices, strict=True)]
    return "\n".join((f"How many legs has a {ANIMALS[place]}?", *lines)), "ABCD"[choices.index(str(LEGS[place]))]


def reply(asking: Asking) -> str:
    """Answer rightly three times in five, else with the choice that stands first."""
    found = re.findall(r"How many legs has a (\w+)\?\n((?:\([A-D]\) .*\n?)+)", asking.prompt)
    name, listed = found[-1]
    choices = dict(re.findall(r"\(([A-D])\) (.*)", listed))
    knows = random.Random(f"{name} {listed}").random() < 0.6
    right = next(letter for letter, text in choices.items() if text == str(LEGS[ANIMALS.index(name)]))
    return f"It has so many legs.\nAnswer: {right if knows else 'A'}"


async def main() -> None:
    """Ask all questions with one call each, and by Medprompt."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        node = {"model": "scripted", "shots": 2, "ensemble": 5, "examples": EXAMPLES}
        async with ModelServer(models=["scripted"], reply=reply) as server:
            book = folder / "models.yaml"
            book.write_text(MODELS.format(url=server.url))
            for name, layers in (("once", [{"generate": {"model": "scripted"}}]), ("medprompt", [{"medprompt": node}])):
                spec = {"name": name, "layers": layers}
                pipeline = colonnade.load(spec, models=book, database_url=f"sqlite:///{folder}/calls.db")
                right = 0
                for place in range(len(ANIMALS)):
                    text, letter = question(place)
                    answer = await pipeline.arun(text)
                    right += answer.text.rstrip().endswith(f"Answer: {letter}")
                print(f"{name:10} right {right} of {len(ANIMALS)}")


if __name__ == "__main__":
    asyncio.run(main())
