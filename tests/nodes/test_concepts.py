"""A memory of concepts: what is stored, once for each item, and what later items are shown."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from db.errors import DataError, InsufficientCandidates
from nodes.base import State
from nodes.concept_memory import ConceptMemory
from nodes.concept_store import read_concept
from nodes.memory import Concept, item_key, read_memory, store
from nodes.testing import Prompt, drafted, try_out
from providers.errors import Overloaded

QUESTION = "How many cups are 3 rows of 4 cups?"
ROWS = Concept("Cups stand in rows.", "Multiply the rows by what one row holds.")
TRAIN = Concept("A train leaves.", "Divide way by speed.")


def say(prompt: Prompt, index: int) -> str:
    return f"Answer: {index}"


def filled(folder: Path, *concepts: Concept) -> str:
    file = folder / "memory.jsonl"
    for number, concept in enumerate(concepts):
        assert store(file, str(number), concept)
    return str(file)


def test_concepts_that_share_something_with_the_question_are_shown_the_nearest_first(tmp_path: Path) -> None:
    file = filled(tmp_path, TRAIN, Concept("", "Check how it ends."), ROWS)
    tried = try_out("concept_memory", State(question=QUESTION), say, model="a", samples=2, file=file)
    text = tried.context.history[0].text
    assert tried.context.history[0].template == "concept_memory"
    assert "train" not in text
    assert text.index("Multiply the rows") < text.index("Check how")
    assert tried.state.measures == {"concepts": 2}
    assert tried.texts == ["Answer: 0", "Answer: 1"]
    assert tried.notes == [("order", "the concepts shown depend on which items came before")]
    fewer = try_out("concept_memory", State(question=QUESTION), say, model="a", file=file, concepts=1)
    assert "Check how" not in fewer.context.history[0].text


def test_without_a_memory_or_anything_near_the_prompt_is_that_of_generate(tmp_path: Path) -> None:
    plain = try_out("generate", State(question=QUESTION), say, model="a").context.history[0].messages
    empty = try_out("concept_memory", State(question=QUESTION), say, model="a", file=str(tmp_path / "none.jsonl"))
    far = try_out("concept_memory", State(question=QUESTION), say, model="a", file=filled(tmp_path, TRAIN))
    assert empty.context.history[0].messages == far.context.history[0].messages == plain
    assert (empty.state.measures, far.state.measures) == ({"concepts": 0}, {"concepts": 0})
    assert empty.notes == []


def test_what_the_best_candidate_taught_is_stored_once(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "memory.jsonl"
    first, second = drafted("worse", "better")
    state = State(question=QUESTION, candidates=(first.scored("s", 1.0), second.scored("s", 2.0)))
    reply = "Thoughts.\n**Situation:** Cups stand in rows.\n**Concept:** Multiply the rows by what one row holds."
    tried = try_out("concept_store", state, [reply], model="a", file=str(file))
    assert "better" in tried.context.history[0].text
    assert tried.state.candidates == state.candidates
    assert tried.state.measures == {"concept_stored": 1.0}
    assert read_memory(file).concepts == (ROWS,)
    again = try_out("concept_store", state, [reply.replace("Multiply", "Add")], model="a", file=str(file))
    assert again.state.measures == {"concept_stored": 1.0}
    assert read_memory(file).concepts == (ROWS,)
    assert read_memory(file).items == {item_key(QUESTION)}


def test_the_same_concept_of_another_item_is_marked_and_not_stored(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    assert store(file, "1", ROWS)
    assert not store(file, "2", Concept("Elsewhere.", "multiply the ROWS by what  one row holds"))
    assert read_memory(file).concepts == (ROWS,)
    assert read_memory(file).items == {"1", "2"}
    assert json.loads(file.read_text().splitlines()[1])["concept"] is None


@pytest.mark.parametrize(
    ("reply", "notes", "stored"),
    [
        ("I learnt nothing.", ["order", "unparsed"], 0.0),
        (Overloaded("503"), ["order", "call_failed"], 0.0),
        ("Concept: Count first.", ["order"], 1.0),
    ],
)
def test_what_cannot_be_read_is_not_stored(tmp_path: Path, reply: object, notes: list[str], stored: float) -> None:
    state = State(question=QUESTION, candidates=drafted("x"))
    tried = try_out("concept_store", state, lambda p, i: reply, model="a", file=str(tmp_path / "m.jsonl"))  # type: ignore[arg-type,return-value]  # a text or an error, as parametrised
    assert [kind for kind, _ in tried.notes] == notes
    assert tried.state.measures == {"concept_stored": stored}
    with pytest.raises(InsufficientCandidates, match="'here' has no candidates"):
        try_out("concept_store", State(question="Q"), [], model="a", file="m.jsonl")


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("Situation: a\nConcept: b", Concept("a", "b")),
        ("Concept: first\nConcept: last one wins", Concept("", "last one wins")),
        ("concept : *b*", Concept("", "b")),
        ("Concept: …", None),
        ("Concept:", None),
        ("A concept: in a sentence", None),
        ("Situation:\nThings stand in rows.\n**Concept:**\nMultiply.", Concept("Things stand in rows.", "Multiply.")),
        ("Situation:\n**Concept:** b", Concept("", "b")),
        ("Concept:\nSituation: a", None),
    ],
)
def test_what_is_read_as_a_concept(text: str, concept: Concept | None) -> None:
    assert read_concept(text) == concept


def test_a_last_line_that_is_not_ended_stays_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    file.write_text('{"item": "1", "situation": "", "concept": "Count first."}')
    assert store(file, "2", ROWS)
    assert store(file, "3", TRAIN)
    assert read_memory(file).concepts == (Concept("", "Count first."), ROWS, TRAIN)
    assert len(file.read_text().splitlines()) == 3


def test_a_broken_memory_says_which_line(tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    file.write_text('{"item": "1", "situation": null, "concept": "x"}\n\n{"concept": "y"}\n')
    for read in (lambda: read_memory(file), lambda: store(file, "2", ROWS)):
        with pytest.raises(DataError, match=r"memory.jsonl, line 3: no entry of a memory; take the line out"):
            read()
    file.write_text("{")
    with pytest.raises(DataError, match="line 1"):
        read_memory(file)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"The memory '.*file/memory.jsonl' cannot be written"):
        store(tmp_path / "file" / "memory.jsonl", "1", ROWS)


def test_processes_that_share_a_memory_store_each_item_once_and_mix_nothing(tmp_path: Path) -> None:
    file, go = tmp_path / "memory.jsonl", tmp_path / "go"
    program = (
        "import sys, time; from pathlib import Path; from nodes.memory import Concept, store\n"
        "Path(sys.argv[2]).touch()\n"
        "while not Path(sys.argv[3]).exists(): time.sleep(0.001)\n"
        "for n in range(40): store(sys.argv[1], str(n), Concept('s' * 500, f'{sys.argv[2]} {n}'))"
    )
    ready = [tmp_path / name for name in ("x", "y")]
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(file), str(one), str(go)], cwd=Path(__file__).parents[2])
        for one in ready
    ]
    while not all(one.exists() for one in ready) and all(process.poll() is None for process in running):
        time.sleep(0.005)
    go.touch()
    assert [process.wait(300) for process in running] == [0, 0]
    assert len(read_memory(file).concepts) == len(file.read_text().splitlines()) == 40


def test_models_and_what_they_need() -> None:
    node = ConceptMemory(model=("a", "b"), file="m", by="embeddings", embedding_model="v")
    assert node.models() == ("a", "b", "v")
    assert node.required_of("a") == node.required_of("v") == frozenset()
