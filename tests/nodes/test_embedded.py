"""Techniques on the models that ship inside: every reply of theirs is read."""

from __future__ import annotations

import pytest

from architectures.context import NodeContext, Run
from nodes.base import State
from nodes.registry import get
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope

QUESTION = "Ann has 16 plums. Ann wins 4 more. Then Ann eats 3. How many plums has Ann now?"


async def run(gateway: Gateway, name: str, before: State, **settings: object) -> State:
    technique = get(name).model_validate(settings)
    context = NodeContext(name, 0, Run(gateway=gateway, scope=Scope("r-1", "1"), answer_kind="numeric"))
    return await technique.run(before, context)


@pytest.mark.parametrize("pair", [("embedded/nano", "embedded/mini"), ("embedded/mini", "embedded/judge")])
async def test_every_reply_of_the_embedded_models_is_read(pair: tuple[str, str]) -> None:
    solver, critic = pair
    asked: dict[str, object] = {"model": critic, "temperature": 0, "max_tokens": 256}
    async with Gateway(ModelBook.load(None, {}), None) as gateway:
        drafts = await run(gateway, "generate", State(question=QUESTION), model=solver, samples=4, temperature=0.8)
        drafts = await run(gateway, "unit_test_generate", drafts, **asked, count=3)
        assert drafts.tests
        drafts = await run(gateway, "critique", drafts, **asked)
        assert any(candidate.critique for candidate in drafts.candidates)
        for name, more in {
            "rank": {},
            "verify": {},
            "judge": {},
            "unit_test_evaluate": {"keep": "all"},
            "fuse": {},
            "refine": {},
        }.items():
            after = await run(gateway, name, drafts, **asked, **more)
            new = after.notes[len(drafts.notes) :]
            assert not [note for note in new if note.kind in ("unparsed", "call_failed")], new
            assert after.candidates
        voted = await run(gateway, "vote", drafts)
        assert voted.measures["answers"] == 4
