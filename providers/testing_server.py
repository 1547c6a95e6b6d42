"""A real HTTP server that speaks chat completions, deterministic and cheap, and that misbehaves on request.

For tests, benchmarks and examples:

    async with ModelServer(latency_s=0.05) as server:
        ...  # server.url, server.ledger

    python -m providers.testing_server --port 8010 --latency 0.05

Its ledger is what a provider's bill would be: samples, requests and tokens that were answered in full.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import orjson

from providers.testing_window import Counting, Entry, RateWindow

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Asking", "Fault", "Ledger", "ModelServer", "count_tokens", "json_reply", "main", "refusal"]

Fault = Literal[
    "401",
    "429",
    "429-retry-after",
    "500",
    "503",
    "bad-request",
    "content-filter",
    "context-length",
    "empty-choices",
    "fewer-choices",
    "no-usage",
    "reset",
    "timeout",
    "trickle",
    "truncated",
    "wrong-usage",
]
"""`wrong-usage` reports numbers that are no counts; `reset` and `truncated` break off in the middle of the body."""

_ALL_FAULTS: tuple[Fault, ...] = get_args(Fault)
_MEET_S = 60.0
_WORDS = ("so", "we", "add", "the", "two", "and", "carry", "one", "then", "twice", "makes", "left", "over", "hence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One choice that the server is to write."""

    model: str
    prompt: str
    """The content of the last message."""
    messages: tuple[tuple[str, str], ...]
    sample: int
    """Its number: `seed` + choice where a seed was sent, 0 at temperature 0, else counted per request body."""
    body: dict[str, Any]


@dataclass(slots=True)
class Ledger:
    """What was served in full, and what was refused or broken off."""

    requests: int = 0
    """Requests that came in, faulty ones included."""
    answered: int = 0
    """Requests that were answered in full."""
    calls: int = 0
    """Samples that were answered in full."""
    prompt_tokens: int = 0
    """Tokens of prompts as reported, each counted once per answered request."""
    completion_tokens: int = 0
    most_at_once: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    by_prompt: Counter[str] = field(default_factory=Counter)
    """Samples answered in full, by model, messages and sampling (see `request_key`)."""
    by_sample: Counter[str] = field(default_factory=Counter)
    """How often each sample was answered in full, by `request_key`:sample; above 1 is a repeat."""

    def as_json(self) -> bytes:
        """Return the ledger as a JSON object."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return orjson.dumps(plain)


def count_tokens(text: str) -> int:
    """Count the tokens of a text as the server counts them: one to four bytes, and at least one."""
    return 1 + len(text.encode()) // 4


def request_key(body: dict[str, Any]) -> str:
    """Return a hash of what is asked, without the number of samples and the seed."""
    asked = {name: value for name, value in body.items() if name not in ("n", "seed")}
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


class ModelServer:
    """The server; an async context manager. Replies depend on nothing but the prompt, the salt and the sample.

    `script` names the faults of the first requests (None: none); after it, `faults` strike with probability
    `fault_rate`, drawn from `fault_seed`. `reply` writes the text of a sample. `api_key` refuses every other key.
    `counting` False numbers samples within each request from 0, so that a repeated request repeats its texts. `window`
    refuses what is beyond it with 429 and `Retry-After`. No answer is given before `meet` requests were under way at
    once, or a minute has passed: so what goes out together is together here, however busy the machine is.
    """

    def __init__(
        self,
        *,
        models: Sequence[str] = ("test-model",),
        latency_s: float = 0.0,
        script: Iterable[Fault | None] = (),
        fault_rate: float = 0.0,
        faults: Sequence[Fault] = ("429", "429-retry-after", "500", "503", "reset", "truncated", "empty-choices"),
        fault_seed: int = 0,
        retry_after_s: float = 0.05,
        hang_s: float = 3600.0,
        reply: Callable[[Asking], str] | None = None,
        salt: str = "",
        api_key: str | None = None,
        counting: bool = True,
        window: RateWindow | None = None,
        meet: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.models = tuple(models)
        self.latency_s = latency_s
        self.script = list(script)
        self.fault_rate = fault_rate
        self.faults = tuple(faults)
        self.retry_after_s = retry_after_s
        self.hang_s = hang_s
        self.reply = reply or self._reply
        self.salt = salt
        self.api_key = api_key
        self.counting = counting
        self.window = window
        self.meet = meet
        self.served_as: str | None = None
        """The name under which replies say that they were served; None repeats the one that was asked for."""
        self.ledger = Ledger()
        self._random = random.Random(fault_seed)
        self._host, self._port = host, port
        self._asked: Counter[str] = Counter()
        self._now = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._met = asyncio.Event()
        self._room: int | None = None
        self._more = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, `/v1` included."""
        return f"http://{self._host}:{self._port}/v1"

    async def __aenter__(self) -> Self:
        from aiohttp import web

        self._runner = web.ServerRunner(
            web.Server(self._serve, access_log=None), handle_signals=False, shutdown_timeout=0.2
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=4096)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def idle(self) -> None:
        """Wait until no completion is under way; one whose caller hung up enters the ledger a moment later."""
        await self._idle.wait()

    async def left(self) -> None:
        """Wait until nobody is connected and nothing is under way: what a killed caller had sent is served or lost."""
        served = self._runner.server if self._runner is not None else None
        while served is not None and served.connections:  # noqa: ASYNC110 - aiohttp tells nobody
            await asyncio.sleep(0.005)
        await self.idle()

    def hold(self, after: int | None) -> None:
        """Let that many more requests through; the others wait for the next such word, for which None is all.

        So a process that is to be killed in the middle cannot come to its end first, however long its killer is kept.
        """
        self._room = after
        self._more.set()

    async def _let_through(self, request: web.BaseRequest) -> bool:
        """Wait for room; False where the caller is gone by then, who takes none."""
        while self._room == 0:
            self._more.clear()
            await self._more.wait()
            if request.transport is None or request.transport.is_closing():
                return False
        if self._room is not None:
            self._room -= 1
        return True

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/hold":
            after = request.query.get("after")
            self.hold(None if after is None else int(after))
            return json_reply(b"{}")
        if request.path.endswith("/chat/completions"):
            self.ledger.requests += 1
            self._now += 1
            self._idle.clear()
            self.ledger.most_at_once = max(self.ledger.most_at_once, self._now)
            try:
                if not await self._let_through(request):
                    return refusal(499, "The caller is gone.")
                await self._meeting()
                return await self._chat(request)
            finally:
                self._now -= 1
                if not self._now:
                    self._idle.set()
        if request.path.endswith("/models"):
            return self._list_models(request)
        if request.path == "/ledger":
            return json_reply(self.ledger.as_json())
        return refusal(404, f"no such path: {request.path}")

    async def _meeting(self) -> None:
        if self.ledger.most_at_once < self.meet and not self._met.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MEET_S):
                    await self._met.wait()
        self._met.set()

    def _list_models(self, request: web.BaseRequest) -> web.Response:
        if self._refused(request):
            return refusal(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}")
        return json_reply(
            orjson.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})
        )

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body: dict[str, Any] = orjson.loads(await request.read())
        if self._refused(request):
            return refusal(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}")
        if body.get("model") not in self.models:
            return refusal(404, f"The model `{body.get('model')}` does not exist.", code="model_not_found")
        entry = self._enter(body)
        if isinstance(entry, float):
            self.ledger.faults["rate"] += 1
            headers = {"Retry-After": f"{entry:.3f}"}
            return refusal(429, "Rate limit reached.", code="rate_limit_exceeded", headers=headers)
        fault = self._fault()
        if fault is not None:
            self.ledger.faults[fault] += 1
            if fault == "timeout":
                await asyncio.sleep(self.hang_s)
            early = self._refusal(fault)
            if early is not None:
                return early
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        answer, bill = self._answer(body, fault)
        if entry is not None and self.window is not None:
            self.window.settle(entry, bill.prompt_tokens + bill.completion_tokens)
        broken = await self._break_off(request, answer, fault)
        if broken is not None:
            return broken
        if request.transport is not None and not request.transport.is_closing():
            self._book(bill)
        return json_reply(answer)

    def _enter(self, body: dict[str, Any]) -> Entry | float | None:
        if self.window is None:
            return None
        prompt = sum(count_tokens(str(message["content"])) + 4 for message in body["messages"])
        most = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        return self.window.enter(prompt + most * int(body.get("n") or 1))

    def _refused(self, request: web.BaseRequest) -> bool:
        return self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}"

    def _fault(self) -> Fault | None:
        if self.script:
            return self.script.pop(0)
        if self.fault_rate and self._random.random() < self.fault_rate:
            return self._random.choice(self.faults)
        return None

    def _refusal(self, fault: Fault) -> web.Response | None:
        """Return the answer of a fault that keeps the model from being asked at all."""
        refusals: dict[str, tuple[int, str, str | None]] = {
            "401": (401, "Incorrect API key provided.", "invalid_api_key"),
            "429": (429, "Rate limit reached.", "rate_limit_exceeded"),
            "429-retry-after": (429, "Rate limit reached.", "rate_limit_exceeded"),
            "500": (500, "The server had an error.", None),
            "503": (503, "The engine is overloaded.", None),
            "bad-request": (400, "Invalid value for 'temperature'.", "invalid_value"),
            "timeout": (504, "Gateway timeout.", None),
            "context-length": (400, "This model's maximum context length is 8 tokens.", "context_length_exceeded"),
        }
        if fault not in refusals:
            return None
        status, message, code = refusals[fault]
        headers = {"Retry-After": f"{self.retry_after_s:g}"} if fault == "429-retry-after" else {}
        return refusal(status, message, code=code, headers=headers)

    def _answer(self, body: dict[str, Any], fault: Fault | None) -> tuple[bytes, _Bill]:
        messages = tuple((str(m["role"]), str(m["content"])) for m in body["messages"])
        key = request_key(body)
        n = int(body.get("n") or 1)
        given = 0 if fault == "empty-choices" else max(1, n // 2) if fault == "fewer-choices" else n
        first = self._first_sample(body, key, given)
        askings = [
            Asking(model=body["model"], prompt=messages[-1][1], messages=messages, sample=number, body=body)
            for number in ([first] * given if body.get("temperature") == 0 else range(first, first + given))
        ]
        choices = [_choice(place, self.reply(asking), body, fault) for place, asking in enumerate(askings)]
        prompt = sum(count_tokens(content) + 4 for _, content in messages)
        completion = sum(count_tokens(str(choice["message"]["content"])) for choice in choices)
        usage: object = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        if fault in ("no-usage", "wrong-usage"):
            usage = None if fault == "no-usage" else {"prompt_tokens": -1, "completion_tokens": "many"}
            prompt = completion = 0
        served = self.served_as or body["model"]
        reply = {"id": f"chatcmpl-{key}", "object": "chat.completion", "created": 1, "model": served}
        data = orjson.dumps({**reply, "choices": choices, "usage": usage})
        return data, _Bill(key, tuple(asking.sample for asking in askings), prompt, completion)

    def _first_sample(self, body: dict[str, Any], key: str, given: int) -> int:
        if body.get("seed") is not None:
            return int(body["seed"])
        if body.get("temperature") == 0 or not self.counting:
            return 0
        first = self._asked[key]
        self._asked[key] += given
        return first

    async def _break_off(
        self, request: web.BaseRequest, answer: bytes, fault: Fault | None
    ) -> web.StreamResponse | None:
        from aiohttp import web

        if fault == "truncated":
            return json_reply(answer[: len(answer) // 2])
        if fault not in ("reset", "trickle"):
            return None
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(answer))})
        await response.prepare(request)
        half = len(answer) // 2
        # One that trickles goes on until the client has had enough, which is an error here and meant to be.
        with contextlib.suppress(ConnectionError):
            await response.write(answer[:half])
            for place in range(half, len(answer) - 1) if fault == "trickle" else ():
                await response.write(answer[place : place + 1])
                await asyncio.sleep(0.02)
        if request.transport is not None:
            request.transport.abort()
        return response

    def _book(self, bill: _Bill) -> None:
        ledger = self.ledger
        ledger.answered += 1
        ledger.calls += len(bill.samples)
        ledger.prompt_tokens += bill.prompt_tokens if bill.samples else 0
        ledger.completion_tokens += bill.completion_tokens
        ledger.by_prompt[bill.key] += len(bill.samples)
        ledger.by_sample.update(f"{bill.key}:{sample}" for sample in bill.samples)

    def _reply(self, asking: Asking) -> str:
        seed = hashlib.sha256(f"{self.salt}\0{asking.model}\0{asking.prompt}\0{asking.sample}".encode()).digest()
        words = " ".join(_WORDS[byte % len(_WORDS)] for byte in seed[: 8 + seed[31] % 16])
        return f"{words}.\nAnswer: {int.from_bytes(seed[:2], 'big') % 100}"


class _Bill(NamedTuple):
    key: str
    samples: tuple[int, ...]
    prompt_tokens: int
    completion_tokens: int


def _choice(place: int, text: str, body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    finish = "stop"
    for stop in body.get("stop") or ():
        text = text.split(stop, 1)[0]
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    if limit is not None and count_tokens(text) > limit:
        text, finish = text.encode()[: 4 * (limit - 1)].decode(errors="ignore"), "length"
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if fault == "content-filter":
        message["content"], finish = "", "content_filter"
    choice: dict[str, Any] = {"index": place, "message": message, "finish_reason": finish, "logprobs": None}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_token(token, body.get("top_logprobs") or 0) for token in _tokens(text)]}
    return choice


def _tokens(text: str) -> list[str]:
    """Split a text into as many pieces as `count_tokens` counts."""
    data = text.encode()
    pieces = [data[start : start + 4].decode(errors="replace") for start in range(0, len(data), 4)]
    return pieces if len(data) % 4 else [*pieces, ""]


def _token(token: str, top: int) -> dict[str, Any]:
    own = -(1 + len(token) % 3) / 8
    likely = [{"token": token if rank == 0 else f"{token}~{rank}", "logprob": own - rank} for rank in range(top)]
    return {"token": token, "logprob": own, "bytes": None, "top_logprobs": likely}


def json_reply(data: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return an answer in JSON."""
    from aiohttp import web

    return web.Response(body=data, status=status, headers=headers, content_type="application/json")


def refusal(
    status: int, message: str, *, code: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    """Return an error as OpenAI writes it."""
    error = {"error": {"message": message, "type": "error", "code": code}}
    return json_reply(orjson.dumps(error), status, headers)


def _window(chosen: argparse.Namespace) -> RateWindow | None:
    share = chosen.window / 60.0
    requests, tokens = (
        None if rate is None else max(1, round(rate * share))
        for rate in (chosen.requests_per_minute, chosen.tokens_per_minute)
    )
    if requests is None and tokens is None:
        return None
    return RateWindow(requests, tokens, window_s=chosen.window, fixed=chosen.fixed_window, counting=chosen.counting)


async def _run(server: ModelServer) -> None:
    async with server:
        print(server.url, flush=True)  # noqa: T201 - the line that whoever started the process waits for
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; prints the base URL once it listens."""
    parser = argparse.ArgumentParser(prog="python -m providers.testing_server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["test-model"])
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--meet", type=int, default=1, help="requests that are under way at once before any answer")
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--faults", nargs="+", default=None, choices=_ALL_FAULTS)
    parser.add_argument("--fault-seed", type=int, default=0)
    parser.add_argument("--salt", default="")
    parser.add_argument("--api-key", default=None, help="refuse every other key")
    parser.add_argument("--stateless", action="store_true", help="a repeated request repeats its texts")
    parser.add_argument("--requests-per-minute", type=int, default=None)
    parser.add_argument("--tokens-per-minute", type=int, default=None)
    parser.add_argument("--window", type=float, default=60.0, help="seconds that both rates are counted over")
    parser.add_argument("--fixed-window", action="store_true", help="windows that begin anew instead of a sliding one")
    parser.add_argument("--counting", choices=get_args(Counting), default="used", help="which tokens count")
    chosen = parser.parse_args(arguments)
    settings: dict[str, Any] = {"faults": chosen.faults} if chosen.faults else {}
    server = ModelServer(
        models=chosen.models,
        latency_s=chosen.latency,
        fault_rate=chosen.fault_rate,
        fault_seed=chosen.fault_seed,
        salt=chosen.salt,
        api_key=chosen.api_key,
        counting=not chosen.stateless,
        window=_window(chosen),
        meet=chosen.meet,
        port=chosen.port,
        **settings,
    )
    try:
        asyncio.run(_run(server))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
