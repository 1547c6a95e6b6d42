"""The contract of the embedded transport, through its public face only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from providers.base import Completion, Message, StepScorer, Transport, WireRequest
from providers.embedded import EmbeddedTransport
from providers.embedded.model import load_model
from providers.errors import BadRequest, CallTimeout, ConnectionFailed, ContextLengthExceeded

Ask = Callable[..., WireRequest]


async def one(transport: EmbeddedTransport, request: WireRequest) -> Completion:
    reply = await transport.complete(request)
    assert len(reply.completions) == 1
    return reply.completions[0]


async def test_it_is_a_transport_and_a_step_scorer(transport: EmbeddedTransport, model: Path) -> None:
    assert isinstance(transport, Transport)
    assert isinstance(transport, StepScorer)
    assert await transport.list_models() == (model.name,)


async def test_greedy_equals_the_likeliest_token_at_every_step(transport: EmbeddedTransport, ask: Ask) -> None:
    done = await one(transport, ask(temperature=0.0, max_tokens=30, top_logprobs=1))
    assert done.logprobs is not None
    assert all(entry.logprob == entry.top[0][1] and entry.token == entry.top[0][0] for entry in done.logprobs)
    again = await one(transport, ask(temperature=0.0, max_tokens=30, seeds=(99,)))
    assert again.text == done.text


async def test_n_samples_pay_the_prompt_once_and_differ(transport: EmbeddedTransport, ask: Ask) -> None:
    request = ask(seeds=tuple(range(8)), max_tokens=20)
    reply = await transport.complete(request)
    assert reply.served_model == request.model
    prompt = transport.count_tokens(request.messages)
    assert [entry.usage.prompt_tokens for entry in reply.completions] == [prompt] + [0] * 7
    assert len({entry.text for entry in reply.completions}) > 4
    for seed, entry in enumerate(reply.completions):
        assert (await one(transport, ask(seeds=(seed,), max_tokens=20))).text == entry.text


async def test_more_samples_than_slots(model: Path, ask: Ask) -> None:
    narrow, wide = EmbeddedTransport(str(model), max_batch=3), EmbeddedTransport(str(model), max_batch=64)
    request = ask(seeds=tuple(range(50)), max_tokens=15)
    assert (await narrow.complete(request)).completions == (await wide.complete(request)).completions
    await narrow.aclose()
    await wide.aclose()


async def test_finish_reasons_and_usage(transport: EmbeddedTransport, ask: Ask) -> None:
    short = await one(transport, ask(max_tokens=3, seeds=(5,)))
    assert (short.finish_reason, short.usage.completion_tokens) == ("length", 3)
    reply = await transport.complete(ask(seeds=tuple(range(40)), top_logprobs=0))
    ended = [entry for entry in reply.completions if entry.finish_reason == "stop"]
    assert ended, "none of 40 samples drew the end token"
    for entry in ended:
        assert entry.logprobs is not None
        assert len(entry.logprobs) == entry.usage.completion_tokens
        assert entry.logprobs[-1].token == "<|end|>"
        assert "<|" not in entry.text


async def test_the_context_ends_a_sample_with_length(transport: EmbeddedTransport, ask: Ask) -> None:
    request = ask("seven " * 20, seeds=tuple(range(20)), max_tokens=10_000)
    room = 128 - transport.count_tokens(request.messages)
    reply = await transport.complete(request)
    long = [entry for entry in reply.completions if entry.finish_reason == "length"]
    assert long
    assert {entry.usage.completion_tokens for entry in long} == {room}


async def test_a_prompt_too_long_is_refused_with_numbers(transport: EmbeddedTransport, ask: Ask) -> None:
    request = ask("7" * 200)
    count = transport.count_tokens(request.messages)
    with pytest.raises(ContextLengthExceeded, match=rf"{count} tokens.*takes 128"):
        await transport.complete(request)
    fits = ask("7" * (127 - transport.count_tokens([Message("user", "")])))
    assert (await one(transport, fits)).usage.completion_tokens == 1


async def test_text_is_cut_before_the_first_stop_string(transport: EmbeddedTransport, ask: Ask) -> None:
    tried = 0
    for seed in range(20):
        whole = await one(transport, ask(max_tokens=60, seeds=(seed,), temperature=0.9))
        for begin, size in ((3, 1), (9, 3), (15, 2), (30, 9)):
            stop = whole.text[begin : begin + size]
            if len(stop) < size or not stop.isascii():
                continue
            tried += 1
            cut = await one(transport, ask(max_tokens=60, seeds=(seed,), temperature=0.9, stop=("never seen", stop)))
            assert cut.finish_reason == "stop"
            assert cut.text == whole.text[: whole.text.index(stop)]
            assert cut.usage.completion_tokens <= whole.usage.completion_tokens
    assert tried >= 10


async def test_log_probabilities_are_of_the_untempered_distribution(
    transport: EmbeddedTransport, model: Path, ask: Ask
) -> None:
    vocab = load_model(model).config.vocab
    warm = await one(transport, ask(max_tokens=6, temperature=1.0, top_logprobs=vocab))
    cold = await one(transport, ask(max_tokens=6, temperature=0.01, top_p=0.5, top_logprobs=vocab))
    assert warm.logprobs is not None
    assert cold.logprobs is not None
    assert warm.logprobs[0].top == cold.logprobs[0].top
    for entry in warm.logprobs + cold.logprobs:
        assert math.isclose(sum(math.exp(value) for _, value in entry.top), 1.0, rel_tol=1e-9)
        assert (entry.token, entry.logprob) in entry.top
    plain = await one(transport, ask(max_tokens=6))
    assert plain.logprobs is None


async def test_continuing_a_prefix_equals_the_tail_of_the_whole(transport: EmbeddedTransport, ask: Ask) -> None:
    empty = transport.count_tokens([Message("user", "")])
    tried = 0
    for number in range(60):
        whole = await one(transport, ask(str(number), max_tokens=25, temperature=0.0, top_logprobs=0))
        assert whole.logprobs is not None
        head = "".join(entry.token for entry in whole.logprobs[:4])
        if transport.count_tokens([Message("user", head)]) - empty != 4:
            continue  # a random model also writes what its tokenizer would split otherwise
        tried += 1
        tail = await one(transport, ask(str(number), max_tokens=21, temperature=0.0, continued=head))
        assert head + tail.text == whole.text
    assert tried >= 10


async def test_tokens_that_only_the_model_has_are_empty_text(make_model: Callable[..., Path], ask: Ask) -> None:
    folder = make_model(padding=400)
    transport = EmbeddedTransport(str(folder))
    request = ask(seeds=tuple(range(10)), temperature=3.0, max_tokens=30, top_logprobs=3, name=folder.name)
    logprobs = [entry for done in (await transport.complete(request)).completions for entry in done.logprobs or ()]
    assert sum(entry.token == "" for entry in logprobs) > 50
    await transport.aclose()


async def test_special_tokens_in_content_are_characters(transport: EmbeddedTransport) -> None:
    empty = transport.count_tokens([Message("user", "")])
    assert empty == 3
    assert transport.count_tokens([Message("user", "<|end|>")]) > empty + 1
    assert transport.count_tokens([Message("user", "a"), Message("assistant", "b")]) == 7


async def test_a_score_is_the_share_of_yes_after_the_prompt(
    transport: EmbeddedTransport, ask: Ask, model: Path
) -> None:
    vocab = load_model(model).config.vocab
    request = ask("is it right?")
    score = await transport.score(request)
    top = (await one(transport, ask("is it right?", max_tokens=1, top_logprobs=vocab))).logprobs
    assert top is not None
    found = {token: math.exp(value) for token, value in top[0].top}
    assert math.isclose(score, found[" yes"] / (found[" yes"] + found[" no"]), rel_tol=1e-6)
    assert await transport.score(ask("another")) != score


async def test_a_model_without_yes_and_no_cannot_score(model: Path, tmp_path: Path, ask: Ask) -> None:
    import json
    import shutil

    folder = Path(shutil.copytree(model, tmp_path / "mute"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(content))
    transport = EmbeddedTransport(str(folder))
    with pytest.raises(BadRequest, match="'mute' cannot score"):
        await transport.score(ask(name="mute"))
    await transport.aclose()


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more, not -0.1"),
        ({"temperature": math.nan}, "temperature must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more, not 0"),
        ({"top_logprobs": 10_000}, "top_logprobs must be 0 to"),
        ({"stop": ("",)}, "must not be empty"),
        ({"seeds": ()}, "0 seeds were given for 0 samples"),
        ({"name": "gpt"}, "not 'gpt'"),
    ],
)
async def test_bad_parameters_are_refused(
    transport: EmbeddedTransport, ask: Ask, sampling: dict[str, object], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        await transport.complete(ask(**sampling))


async def test_bad_conversations_are_refused(transport: EmbeddedTransport, ask: Ask) -> None:
    request = ask()
    bad = {
        "at least one message": replace(request, messages=()),
        "not one of role 'user'": replace(request, continue_final=True),
        "unknown role 'tool'": replace(request, messages=(Message("tool", "x"),)),  # type: ignore[arg-type]  # on purpose
    }
    for message, wrong in bad.items():
        with pytest.raises(BadRequest, match=message):
            await transport.complete(wrong)


async def test_a_call_over_its_time_is_told(transport: EmbeddedTransport, ask: Ask) -> None:
    with pytest.raises(CallTimeout, match="took over 0 s"):
        await transport.complete(ask(timeout_s=0.0, seeds=tuple(range(200))))


async def test_a_closed_transport_refuses(model: Path, ask: Ask) -> None:
    transport = EmbeddedTransport(str(model))
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(ConnectionFailed, match="closed"):
        await transport.complete(ask())


async def test_samples_follow_the_model(transport: EmbeddedTransport, ask: Ask, model: Path) -> None:
    from scipy.stats import chisquare

    vocab = load_model(model).config.vocab
    top = (await one(transport, ask(max_tokens=1, top_logprobs=vocab))).logprobs
    assert top is not None
    wanted: dict[str, float] = {}
    for token, value in top[0].top:
        wanted[token] = wanted.get(token, 0.0) + math.exp(value)
    reply = await transport.complete(ask(max_tokens=1, seeds=tuple(range(3000)), top_logprobs=0))
    drawn = [entry.logprobs[0].token for entry in reply.completions if entry.logprobs]
    likely = [token for token, share in wanted.items() if share * 3000 >= 5]
    counts = [drawn.count(token) for token in likely]
    shares = np.array([wanted[token] for token in likely])
    observed = [*counts, 3000 - sum(counts)]
    expected = [*(shares * 3000), 3000 * (1 - shares.sum())]
    assert chisquare(observed, expected).pvalue > 1e-4
