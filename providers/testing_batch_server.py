"""A real HTTP server that speaks OpenAI's files and batches and Anthropic's message batches, beside chat completions.

Its replies are those of `providers.testing_server`, so that a batch and the immediate endpoint answer alike for equal
seeds. For tests, benchmarks and examples:

    async with BatchServer(stages=Stages(running_s=0.05)) as server:
        ...  # server.url, server.ledger, server.batches

    python -m providers.testing_batch_server --port 8010 --running 0.05

Batches go by the clock: a look at one brings it to where it is by now. Its books are `ledger` for samples, whichever
way they were asked, and `batches` for what was submitted.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import orjson
from aiohttp import BodyPartReader

from providers.testing_batches import STATES, Batch, BatchLedger, Limits, Stages, request_hash, tokens_of
from providers.testing_server import ModelServer, json_reply, refusal

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["BatchLedger", "BatchServer", "Hang", "Limits", "Stages", "main"]

Hang = Literal["upload", "create", "list", "results"]
"""Where a request is left without an answer, once what it asked for has been done."""
Refused = tuple[Literal["upload", "create", "look", "list", "results", "cancel"], int]
"""Where a request is refused, and with what status, before anything is done."""


class BatchServer(ModelServer):
    """The server; an async context manager.

    Of the first `expire_batches` batches the last `expire_share` of the lines expire; the first `fail_share` of the
    lines of the first `fail_batches` fail with status 500. `hang` names requests that are left without an answer, each
    once; `refuse` those that are refused, each once, in this order. What the base class can do it does for the
    immediate endpoint.
    """

    def __init__(
        self,
        *,
        stages: Stages | None = None,
        limits: Limits | None = None,
        expire_share: float = 0.0,
        expire_batches: int = 1,
        fail_share: float = 0.0,
        fail_batches: int = 1,
        hang: Sequence[Hang] = (),
        refuse: Sequence[Refused] = (),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.stages = stages or Stages()
        self.limits = limits or Limits()
        self.expire = (expire_share, expire_batches)
        self.fail = (fail_share, fail_batches)
        self.hang = list(hang)
        self.refuse = list(refuse)
        self.batches = BatchLedger()
        self._files: dict[str, tuple[str, bytes, float]] = {}
        self._batches: dict[str, Batch] = {}

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.removeprefix("/v1").strip("/").split("/")
        if path == ["ledger"]:
            return json_reply(self._books())
        if path[0] not in ("batches", "files", "messages"):
            return await super()._serve(request)
        if not await self._let_through(request):
            return refusal(499, "The caller is gone.")
        if self._refused(request):
            return refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        what = _asked(request.method, path)
        if self.refuse and self.refuse[0][0] == what:
            return refusal(self.refuse.pop(0)[1], "The server had an error.")
        for batch in self._batches.values():
            self._advance(batch)
        if path[0] == "files":
            return await self._file(request, path[1:])
        if path[0] == "batches":
            return await self._openai(request, path[1:])
        return await self._anthropic(request, path[1:])

    def _refused(self, request: web.BaseRequest) -> bool:
        given = request.headers.get("x-api-key")
        return super()._refused(request) if given is None else self.api_key not in (None, given)

    def _books(self) -> bytes:
        for batch in self._batches.values():
            self._advance(batch)
        plain = {name: getattr(self.batches, name) for name in self.batches.__slots__}
        return orjson.dumps({**orjson.loads(self.ledger.as_json()), "batch": plain})

    def _looked(self, batch: Batch, status: str) -> None:
        self.batches.looks[status] += 1
        # Anthropic's form has one state for all that is under way.
        batch.seen.update(STATES if status == "in_progress" and batch.form == "anthropic" else [status])

    async def _maybe_hang(self, where: Hang) -> None:
        if where in self.hang:
            self.hang.remove(where)
            await asyncio.sleep(self.hang_s)

    # What follows is OpenAI's form.

    async def _file(self, request: web.BaseRequest, path: list[str]) -> web.StreamResponse:
        if not path and request.method == "POST":
            return await self._upload(request)
        if path and path[0] in self._files:
            if path[1:] == ["content"]:
                await self._maybe_hang("results")
                return json_reply(self._files[path[0]][1])
            return json_reply(orjson.dumps(self._file_object(path[0])))
        return refusal(404, f"No such File object: {'/'.join(path)}")

    async def _upload(self, request: web.BaseRequest) -> web.StreamResponse:
        name, purpose, data = "", b"", b""
        form = await request.multipart()
        while (part := await form.next()) is not None:
            if not isinstance(part, BodyPartReader):
                return refusal(400, "A part of the form holds parts.")
            # Piece by piece, since `read` refuses what is larger than a request may be.
            read = b"".join([bytes(piece) async for piece in _pieces(part)])
            if part.name == "file":
                name, data = part.filename or "", read
            elif part.name == "purpose":
                purpose = read
        if purpose != b"batch":
            return refusal(400, "The purpose of a batch's file is 'batch'.")
        if len(data) > self.limits.bytes:
            return refusal(413, f"The file is larger than {self.limits.bytes} bytes.")
        id = self._keep(name, data)
        self.batches.uploads += 1
        await self._maybe_hang("upload")
        return json_reply(orjson.dumps(self._file_object(id)))

    def _keep(self, name: str, data: bytes) -> str:
        id = f"file-{len(self._files)}"
        self._files[id] = (name, data, time.time())
        return id

    def _file_object(self, id: str) -> dict[str, object]:
        name, data, made = self._files[id]
        return {
            "id": id,
            "object": "file",
            "bytes": len(data),
            "created_at": int(made),
            "filename": name,
            "purpose": "batch_output" if name.startswith("batch_") else "batch",
            "status": "processed",
        }

    async def _openai(self, request: web.BaseRequest, path: list[str]) -> web.StreamResponse:
        if not path and request.method == "POST":
            return await self._create(request)
        if not path:
            return await self._list(request, "openai", "after")
        batch = self._batches.get(path[0])
        if batch is None or batch.form != "openai":
            return refusal(404, f"No batch found with id '{path[0]}'.")
        if path[1:] == ["cancel"]:
            if batch.ended is not None or batch.refused is not None:
                return refusal(409, f"Cannot cancel a batch with status '{batch.openai_status()}'.")
            self._cancel(batch)
        self._looked(batch, batch.openai_status())
        return json_reply(orjson.dumps(batch.openai_object()))

    async def _create(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = orjson.loads(await request.content.read())
        file = self._files.get(asked["input_file_id"])
        if file is None or asked["endpoint"] != "/v1/chat/completions" or asked["completion_window"] != "24h":
            return refusal(400, "The file, the endpoint or the completion window is not right.")
        lines = [orjson.loads(line) for line in file[1].splitlines()]
        batch = self._accept("openai", lines, file=asked["input_file_id"], metadata=asked.get("metadata"))
        await self._maybe_hang("create")
        return json_reply(orjson.dumps(batch.openai_object()))

    async def _list(
        self, request: web.BaseRequest, form: Literal["anthropic", "openai"], cursor: str
    ) -> web.StreamResponse:
        await self._maybe_hang("list")
        newest = [batch for batch in reversed(self._batches.values()) if batch.form == form]
        after, limit = request.query.get(cursor), int(request.query.get("limit", 20))
        if after is not None:
            newest = newest[[batch.id for batch in newest].index(after) + 1 :]
        page = newest[:limit]
        ids = {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        listed = {
            "data": [one.openai_object() if form == "openai" else one.anthropic_object(self.url) for one in page],
            **ids,
            "has_more": len(newest) > limit,
        }
        return json_reply(orjson.dumps({"object": "list", **listed} if form == "openai" else listed))

    # What follows is Anthropic's form.

    async def _anthropic(self, request: web.BaseRequest, path: list[str]) -> web.StreamResponse:
        if not path:
            message = self._message(orjson.loads(await request.content.read()))
            await asyncio.sleep(self.latency_s)
            return json_reply(orjson.dumps(message))
        if path[0] != "batches":
            return refusal(404, f"no such path: {request.path}")
        if len(path) == 1 and request.method == "GET":
            return await self._list(request, "anthropic", "after_id")
        if len(path) == 1:
            data = await request.content.read()
            if len(data) > self.limits.bytes:
                return refusal(413, "Request exceeds the maximum size.")
            lines = orjson.loads(data)["requests"]
            if len(lines) > self.limits.rows:
                return refusal(400, f"A batch holds {self.limits.rows} requests at most.")
            batch = self._accept("anthropic", lines)
            await self._maybe_hang("create")
            return json_reply(orjson.dumps(batch.anthropic_object(self.url)))
        found = self._batches.get(path[1])
        if found is None or found.form != "anthropic":
            return refusal(404, f"No batch found with id '{path[1]}'.")
        if path[2:] == ["results"]:
            await self._maybe_hang("results")
            return json_reply(b"".join(found.output)) if found.ended is not None else refusal(404, "not ended")
        if path[2:] == ["cancel"] and found.ended is None:
            self._cancel(found)
        self._looked(found, found.anthropic_status())
        return json_reply(orjson.dumps(found.anthropic_object(self.url)))

    def _message(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer a message as a chat completion with the same conversation is answered."""
        messages = [{"role": "system", "content": params["system"]}] if params.get("system") else []
        names = ("model", "max_tokens", "temperature", "top_p")
        body: dict[str, Any] = {name: params[name] for name in names if name in params}
        body["messages"] = [*messages, *params["messages"]]
        if params.get("stop_sequences"):
            body["stop"] = params["stop_sequences"]
        data, bill = self._answer(body, None)
        self._book(bill)
        reply = orjson.loads(data)
        choice = reply["choices"][0]
        return {
            "id": reply["id"],
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": [{"type": "text", "text": choice["message"]["content"]}],
            "stop_reason": "max_tokens" if choice["finish_reason"] == "length" else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": bill.prompt_tokens, "output_tokens": bill.completion_tokens},
        }

    # What follows is what becomes of a batch.

    def _accept(
        self,
        form: Literal["anthropic", "openai"],
        lines: list[dict[str, Any]],
        *,
        file: str = "",
        metadata: dict[str, str] | None = None,
    ) -> Batch:
        number = len(self._batches)
        slow = self.stages.slow_after is not None and number >= self.stages.slow_after
        batch = Batch(
            id=f"batch_{number}" if form == "openai" else f"msgbatch_{number}",
            form=form,
            made=time.time(),
            lines=lines,
            number=number,
            running_s=self.stages.slow_s if slow else self.stages.running_s,
            input_file=file,
            metadata=metadata,
            refused=self._invalid(lines),
        )
        self._batches[batch.id] = batch
        if batch.refused is None:
            self.batches.batches += 1
            self.batches.rows += len(lines)
            bodies = (line["body"] if form == "openai" else line["params"] for line in lines)
            self.batches.by_request.update(map(request_hash, bodies))
        return batch

    def _invalid(self, lines: list[dict[str, Any]]) -> tuple[str, str] | None:
        ids = [line["custom_id"] for line in lines]
        if len(set(ids)) < len(ids):
            return "duplicate_custom_id", "The custom_id of each request must be unique."
        if len(lines) > self.limits.rows:
            return "too_many_requests", f"The file holds {len(lines)} requests; at most {self.limits.rows} are allowed."
        if len({(line.get("body") or line["params"])["model"] for line in lines}) > 1:
            return "mismatched_model", "All requests of a batch must be for one model."
        running = (one for one in self._batches.values() if one.ended is None and one.refused is None)
        queued = sum(map(tokens_of, (line for one in running for line in one.lines)))
        if self.limits.tokens is not None and queued + sum(map(tokens_of, lines)) > self.limits.tokens:
            return (
                "token_limit_exceeded",
                f"Enqueued token limit reached. Limit: {self.limits.tokens:,} enqueued tokens. Please try again once "
                "some in_progress batches have been completed.",
            )
        return None

    def _advance(self, batch: Batch) -> None:
        """Bring a batch to where it is by now."""
        stages, moments, now = self.stages, batch.moments, time.time()
        if batch.ended is not None or "failed" in moments:
            return
        if batch.cancelled is not None:
            if now - batch.cancelled >= stages.cancelling_s:
                self._end(batch, done=batch.done(), rest="canceled")
            return
        lasting = (stages.validating_s, batch.running_s, stages.finalizing_s)
        for state, after, lasts in zip(STATES[:-1], STATES[1:], lasting, strict=True):
            since = moments.get(state, batch.made)
            if after in moments:
                continue
            if now - since < lasts or (stages.seen and state not in batch.seen):
                return
            moments["failed" if batch.refused else after] = now if stages.seen else since + lasts
            if batch.refused:
                return
        share, first = self.expire
        expired = round(share * len(batch.lines)) if batch.number < first else 0
        self._end(batch, done=len(batch.lines) - expired, rest="expired")

    def _cancel(self, batch: Batch) -> None:
        if batch.cancelled is None:
            batch.cancelled = time.time()
            batch.moments["cancelling"] = batch.cancelled
            self._advance(batch)

    def _end(self, batch: Batch, *, done: int, rest: Literal["canceled", "expired"]) -> None:
        share, first = self.fail
        failed = round(share * len(batch.lines)) if batch.number < first else 0
        for place, line in enumerate(batch.lines):
            what = rest if place >= done else "errored" if place < failed else "succeeded"
            batch.counts[what] += 1
            (self._write_openai if batch.form == "openai" else self._write_anthropic)(batch, line, what)
        batch.ended = time.time()
        # Results come in an order of their own.
        batch.output.reverse()
        if rest == "canceled":
            batch.moments["cancelled"] = batch.ended
        else:
            del batch.moments["completed"]
            batch.moments["expired" if done < len(batch.lines) else "completed"] = batch.ended
        for name, lines in (("output", batch.output), ("error", batch.errors)):
            if batch.form == "openai" and lines:
                self._files[f"{batch.id}-{name}"] = (f"{batch.id}_{name}.jsonl", b"".join(lines), batch.ended)

    def _write_openai(self, batch: Batch, line: dict[str, Any], what: str) -> None:
        entry: dict[str, Any] = {"id": f"batch_req_{line['custom_id']}", "custom_id": line["custom_id"]}
        if what == "succeeded":
            data, bill = self._answer(line["body"], None)
            self._book(bill)
            self._bill(bill.prompt_tokens, bill.completion_tokens)
            entry |= {"response": _response(200, orjson.Fragment(data)), "error": None}
        elif what == "errored":
            error = {"message": "The server had an error.", "type": "server_error", "param": None, "code": None}
            entry |= {"response": _response(500, {"error": error}), "error": None}
        else:
            code = "batch_expired" if what == "expired" else "batch_cancelled"
            entry |= {"response": None, "error": {"code": code, "message": "This request could not be executed."}}
        (batch.output if what == "succeeded" else batch.errors).append(orjson.dumps(entry) + b"\n")

    def _write_anthropic(self, batch: Batch, line: dict[str, Any], what: str) -> None:
        result: dict[str, Any] = {"type": what}
        if what == "succeeded":
            result["message"] = self._message(line["params"])
            usage = result["message"]["usage"]
            self._bill(usage["input_tokens"], usage["output_tokens"])
        elif what == "errored":
            error = {"type": "api_error", "message": "Internal server error"}
            result["error"] = {"type": "error", "error": error, "request_id": None}
        batch.output.append(orjson.dumps({"custom_id": line["custom_id"], "result": result}) + b"\n")

    def run_batch(self, lines: list[dict[str, Any]]) -> bytes:
        """Answer the lines of an input file as vLLM's `run-batch` does: the output file, in order."""
        batch = Batch(id="", form="openai", made=0, lines=lines, number=0, running_s=0)
        for line in lines:
            self._write_openai(batch, line, "succeeded")
        return b"".join(batch.output)

    def _bill(self, prompt: int, completion: int) -> None:
        self.batches.answered += 1
        self.batches.prompt_tokens += prompt
        self.batches.completion_tokens += completion


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytearray | bytes]:
    while piece := await part.read_chunk(1 << 20):
        yield piece


def _asked(method: str, path: list[str]) -> str:
    """Name what a request asks for, by its path below the version."""
    rest = path[1:] if path[0] != "messages" else path[2:]
    if rest[1:]:
        return "cancel" if rest[1] == "cancel" else "results"
    if rest:
        return "look"
    return "upload" if path[0] == "files" else "create" if method == "POST" else "list"


def _response(status: int, body: object) -> dict[str, object]:
    return {"status_code": status, "request_id": "req", "body": body}


async def _run(server: BatchServer) -> None:
    async with server:
        print(server.url, flush=True)  # noqa: T201 - the line that whoever started the process waits for
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; prints the base URL once it listens."""
    parser = argparse.ArgumentParser(prog="python -m providers.testing_batch_server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=["test-model"])
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every immediate answer")
    parser.add_argument("--salt", default="")
    parser.add_argument("--stateless", action="store_true", help="a repeated request repeats its texts")
    for name in ("validating", "running", "finalizing", "cancelling"):
        parser.add_argument(f"--{name}", type=float, default=0.0, help="seconds that a batch is in this state")
    parser.add_argument("--seen", action="store_true", help="a batch stays in a state until it was looked at there")
    parser.add_argument("--slow-after", type=int, default=None, help="batches after which the queue turns slow")
    parser.add_argument("--slow", type=float, default=3600.0, help="seconds that a batch runs from then on")
    parser.add_argument("--expire-share", type=float, default=0.0)
    parser.add_argument("--expire-batches", type=int, default=1)
    parser.add_argument("--fail-share", type=float, default=0.0)
    parser.add_argument("--fail-batches", type=int, default=1)
    parser.add_argument("--max-rows", type=int, default=50_000)
    parser.add_argument("--max-tokens", type=int, default=None, help="tokens that may be queued at once")
    parser.add_argument("--hang-s", type=float, default=3600.0, help="seconds that --hang lasts")
    parser.add_argument("--hang", nargs="*", default=(), choices=get_args(Hang))
    chosen = parser.parse_args(arguments)
    server = BatchServer(
        stages=Stages(
            validating_s=chosen.validating,
            running_s=chosen.running,
            finalizing_s=chosen.finalizing,
            cancelling_s=chosen.cancelling,
            seen=chosen.seen,
            slow_after=chosen.slow_after,
            slow_s=chosen.slow,
        ),
        limits=Limits(rows=chosen.max_rows, tokens=chosen.max_tokens),
        expire_share=chosen.expire_share,
        expire_batches=chosen.expire_batches,
        fail_share=chosen.fail_share,
        fail_batches=chosen.fail_batches,
        hang=chosen.hang,
        hang_s=chosen.hang_s,
        models=chosen.models,
        latency_s=chosen.latency,
        salt=chosen.salt,
        counting=not chosen.stateless,
        port=chosen.port,
    )
    try:
        asyncio.run(_run(server))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
