"""Compares greedy replies of a vLLM server with those of the NumPy runtime, token for token.

    ../shared/tools/vllm-cpu.sh MODEL_DIR PORT mini --dtype float32
    python benchmarks/vllm_parity.py http://127.0.0.1:PORT/v1 MODEL_DIR [--prompts 200]

Both are asked over their chat interface for the replies to held-out problems of both families. The server must run in
float32: the weights are bfloat16 values that both widen, and bfloat16 arithmetic would round every step of one of them.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from pathlib import Path
from typing import NamedTuple

import aiohttp

from evals.problems import make_problems
from nodes.prompting import render
from providers.base import Message, Sampling, WireRequest
from providers.embedded import EmbeddedTransport

MOST_TOKENS = 160


class Answered(NamedTuple):
    """A reply with its tokens and their natural-log probabilities."""

    text: str
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]


def prompts(count: int) -> list[tuple[Message, ...]]:
    """Word problems to be solved, and exact solutions of date problems to be verified."""
    stories = make_problems("arithmetic", count // 2, split="test", seed=7)
    found = [render("compact", "generate", {"question": story.question}) for story in stories]
    for problem in make_problems("dates", count - count // 2, split="test", seed=7):
        solution = "\n".join(problem.solution)
        found.append(render("compact", "verify_reason", {"question": problem.question, "candidate": solution}))
    return found


async def from_server(session: aiohttp.ClientSession, url: str, model: str, messages: tuple[Message, ...]) -> Answered:
    """Ask the server greedily."""
    body = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "temperature": 0,
        "max_tokens": MOST_TOKENS,
        "logprobs": True,
        "top_logprobs": 1,
    }
    async with session.post(f"{url}/chat/completions", json=body) as response:
        response.raise_for_status()
        choice = (await response.json())["choices"][0]
    # the closing token has no text on the server
    content = [entry for entry in choice["logprobs"]["content"] if not entry["token"].startswith("<|")]
    return Answered(
        choice["message"]["content"],
        tuple(entry["token"] for entry in content),
        tuple(entry["logprob"] for entry in content),
    )


async def from_runtime(transport: EmbeddedTransport, model: str, messages: tuple[Message, ...]) -> Answered:
    """Ask the NumPy runtime greedily."""
    sampling = Sampling(temperature=0.0, max_tokens=MOST_TOKENS, top_logprobs=0)
    request = WireRequest(model=model, messages=messages, sampling=sampling, indices=(0,), seeds=(0,))
    completion = (await transport.complete(request)).completions[0]
    logprobs = [entry for entry in completion.logprobs or () if not entry.token.startswith("<|")]
    return Answered(completion.text, tuple(e.token for e in logprobs), tuple(e.logprob for e in logprobs))


async def compare(url: str, folder: Path, count: int) -> int:
    """Print what differs and a summary; return how many replies differ."""
    asked = prompts(count)
    transport = EmbeddedTransport(f"{folder.resolve()}")
    name = folder.resolve().name
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/models") as response:
            served = (await response.json())["data"][0]["id"]
        pairs = []
        for messages in asked:
            theirs = await from_server(session, url, served, messages)
            pairs.append((theirs, await from_runtime(transport, name, messages)))
    await transport.aclose()
    different = [(a, b) for a, b in pairs if a.tokens != b.tokens or a.text != b.text]
    for theirs, ours in different[:5]:
        print(f"server:  {theirs.text!r}\nruntime: {ours.text!r}")
    gaps = [abs(x - y) for a, b in pairs for x, y in zip(a.logprobs, b.logprobs, strict=False)]
    tokens = sum(len(a.tokens) for a, _ in pairs)
    print(f"{name} served as {served} at {url}: {len(pairs) - len(different)} of {len(pairs)} greedy replies equal")
    print(f"{tokens} tokens, largest difference of a log probability {max(gaps, default=math.nan):.2e}")
    return len(different)


def main() -> None:
    """Read the command line; exit with 1 where a reply differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="the server's address, ending in /v1")
    parser.add_argument("folder", type=Path, help="the model folder that it serves")
    parser.add_argument("--prompts", type=int, default=200)
    arguments = parser.parse_args()
    raise SystemExit(min(1, asyncio.run(compare(arguments.url.rstrip("/"), arguments.folder, arguments.prompts))))


if __name__ == "__main__":
    main()
