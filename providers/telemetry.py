"""OpenTelemetry spans and metrics: a span per attempt, per node and per item, after the GenAI conventions.

Only an attempt carries `gen_ai.usage.*`, so that a backend that adds up a trace counts every token once; the sums of
nodes and items stand under `colonnade.total.*`, and what came from a cache under `colonnade.cached.*`. Where no SDK is
set up, every function here looks at one global and returns a span that does nothing. Error messages and, unless the
user asks for them, prompts and answers stay out: they may hold what nobody meant to export.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from providers.errors import ProviderError
from providers.genai import (
    Attributes,
    captures_content,
    input_messages,
    operation,
    output_messages,
    provider_name,
    request_attributes,
    server,
    usage_of,
)

if TYPE_CHECKING:
    from contextvars import Token
    from decimal import Decimal

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer, TracerProvider

    from providers.base import Reply, Sample, Usage, WireRequest
    from providers.meters import Meters
    from providers.models import ModelSpec
    from providers.tally import Totals

__all__ = ["Attempt", "Span", "attempt", "configure", "handed_out_cached", "span", "totals_attributes"]

_SCOPE: Final = "colonnade"


class Span:
    """A span that nobody records: what is returned while tracing is off."""

    __slots__ = ()

    @property
    def recording(self) -> bool:
        """Say whether attributes are worth computing."""
        return False

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the span; an error that passes gives it its `error.type` and no message."""


class Attempt(Span):
    """The span of one request over the wire."""

    __slots__ = ()

    def answered(self, reply: Reply, *, rent: Decimal | None = None) -> None:
        """Take down what came back, and what it cost where a machine is paid by the hour."""

    def cancelled(self, usage: Usage, dollars: Decimal | None) -> None:
        """Take down what was billed for an attempt that is given up."""


_NO_SPAN: Final = Span()
_NO_ATTEMPT: Final = Attempt()


class _LiveSpan(Span):
    """A span that is recorded, current while it is open."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: OtelSpan) -> None:
        self._span = span
        self._token: Token[Context] | None = None

    @property
    def recording(self) -> bool:
        return self._span.is_recording()

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        from opentelemetry import context
        from opentelemetry.trace import StatusCode

        if self._token is not None:
            context.detach(self._token)
        if error is not None:
            self._span.set_attribute("error.type", _error_type(error))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _LiveAttempt(Attempt):
    """An attempt of which spans, metrics or both are kept."""

    __slots__ = ("_began", "_meters", "_request", "_shared", "_span", "_spec")

    def __init__(self, spec: ModelSpec, request: WireRequest, shared: Attributes, *, number: int, on: _On) -> None:
        self._spec = spec
        self._request = request
        self._meters = on.meters
        self._shared = shared
        self._span: Span = _NO_SPAN
        if on.tracer is not None:
            self._span = self._start(on.tracer, number)
        self._began = time.perf_counter()

    def _start(self, tracer: Tracer, number: int) -> Span:
        from opentelemetry.trace import SpanKind

        kind = SpanKind.CLIENT if self._spec.hosted else SpanKind.INTERNAL
        own: Attributes = {"colonnade.model": self._spec.name, "colonnade.attempt": number}
        begun = _LiveSpan(
            tracer.start_span(
                f"{self._shared['gen_ai.operation.name']} {self._request.model}",
                kind=kind,
                attributes={**self._shared, **request_attributes(self._request), **own},
            )
        )
        if begun.recording and captures_content():
            begun.set({"gen_ai.input.messages": input_messages(self._request.messages)})
        return begun

    @property
    def recording(self) -> bool:
        return self._span.recording

    def set(self, attributes: Attributes) -> None:
        self._span.set(attributes)

    def answered(self, reply: Reply, *, rent: Decimal | None = None) -> None:
        from providers.prices import cost

        completions = reply.completions
        usage = usage_of(completions)
        price = self._spec.price
        dollars = rent if price is None else cost(usage, price)
        if reply.served_model:
            self._shared = {**self._shared, "gen_ai.response.model": reply.served_model}
        if self._meters is not None:
            self._meters.used(usage, dollars, self._shared)
        if not self._span.recording:
            return
        said = _billed(usage, dollars)
        said["gen_ai.response.finish_reasons"] = tuple(completion.finish_reason for completion in completions)
        if reply.served_model:
            said["gen_ai.response.model"] = reply.served_model
        if captures_content():
            said["gen_ai.output.messages"] = output_messages(completions)
        self._span.set(said)

    def cancelled(self, usage: Usage, dollars: Decimal | None) -> None:
        if self._meters is not None:
            self._meters.used(usage, dollars, self._shared)
        if self._span.recording:
            self._span.set(_billed(usage, dollars))

    def __enter__(self) -> Self:
        self._span.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        seconds = time.perf_counter() - self._began
        self._span.__exit__(kind, error, at)
        if self._meters is not None:
            failed = {} if error is None else {"error.type": _error_type(error)}
            self._meters.ended(seconds, {**self._shared, **failed})


@dataclass(frozen=True, slots=True, kw_only=True)
class _On:
    """What is recorded at the moment."""

    tracer: Tracer | None
    meters: Meters | None


class _State:
    """The providers in use and what was made of them."""

    def __init__(self) -> None:
        self.chosen: tuple[TracerProvider | None, MeterProvider | None] = (None, None)
        self.seen: tuple[object, object] = (None, None)
        self.on: _On | None = None
        self.globals: tuple[Callable[[], TracerProvider], Callable[[], MeterProvider]] | None = None
        """The API's own functions, kept because an import statement costs more than they do."""


_STATE: Final = _State()


def configure(*, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Record with these providers; None goes back to OpenTelemetry's global ones, which is where this begins."""
    _STATE.chosen = (tracer_provider, meter_provider)
    _STATE.seen = (None, None)


def span(name: str, attributes: Attributes) -> Span:
    """Begin a span of our own, current while it is open: `with span(…) as open:`."""
    on = _on()
    if on is None or on.tracer is None:
        return _NO_SPAN
    return _LiveSpan(on.tracer.start_span(name, attributes=attributes))


def attempt(
    spec: ModelSpec, request: WireRequest, *, number: int = 1, address: str | None = None, asked: str | None = None
) -> Attempt:
    """Begin the span of an attempt, the `number`-th of its request, and time it for the metrics.

    `address` is the base URL that it goes to, where that is not the model's only one; `asked` names the operation where
    that is not an answer (`embeddings`, or `score`, for which the conventions have no word).
    """
    on = _on()
    if on is None:
        return _NO_ATTEMPT
    shared = {"gen_ai.operation.name": asked or operation(spec), **_shared(spec, request.model, address)}
    return _LiveAttempt(spec, request, shared, number=number, on=on)


def _billed(usage: Usage, dollars: Decimal | None) -> dict[str, str | bool | int | float | Sequence[str]]:
    said: dict[str, str | bool | int | float | Sequence[str]] = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    if usage.cached_prompt_tokens:
        said["gen_ai.usage.cache_read.input_tokens"] = usage.cached_prompt_tokens
    if usage.estimated:
        said["colonnade.usage.estimated"] = True
    if dollars is not None:
        said["colonnade.cost_usd"] = float(dollars)
    return said


def handed_out_cached(spec: ModelSpec, samples: Sequence[Sample]) -> None:
    """Record samples of one request that cost nothing, in a span without `gen_ai.usage` and without an operation."""
    on = _on()
    if on is None:
        return
    shared = _shared(spec, spec.model)
    if on.meters is not None:
        on.meters.cached(len(samples), shared)
    if on.tracer is not None:
        usage = usage_of([sample.completion for sample in samples])
        on.tracer.start_span(
            f"cached {spec.model}",
            attributes={
                **shared,
                "colonnade.model": spec.name,
                "colonnade.cached": True,
                "colonnade.cached.samples": len(samples),
                "colonnade.cached.input_tokens": usage.prompt_tokens,
                "colonnade.cached.output_tokens": usage.completion_tokens,
            },
        ).end()


def totals_attributes(totals: Totals) -> Attributes:
    """Return sums of calls, tokens and dollars under names of our own; an unknown price is left out."""
    said: dict[str, str | bool | int | float | Sequence[str]] = {
        "colonnade.total.calls": totals.calls,
        "colonnade.total.calls_paid": totals.paid_calls,
        "colonnade.total.failures": totals.failures,
        "colonnade.total.calls_cancelled": totals.cancelled,
        "colonnade.total.input_tokens": totals.prompt_tokens,
        "colonnade.total.output_tokens": totals.completion_tokens,
        "colonnade.total.input_tokens_paid": totals.paid_prompt_tokens,
        "colonnade.total.output_tokens_paid": totals.paid_completion_tokens,
    }
    if totals.cost is not None:
        said["colonnade.total.cost_usd"] = float(totals.cost)
    if totals.paid_cost is not None:
        said["colonnade.total.cost_usd_paid"] = float(totals.paid_cost)
    return said


def _on() -> _On | None:
    """Return what to record with; None where nothing is set up, which costs a microsecond to find out."""
    if _STATE.globals is None:
        if _STATE.chosen == (None, None) and "opentelemetry.trace" not in sys.modules:
            # Whoever has set an SDK up has imported this; importing it ourselves would cost 0.1 s and tell nothing.
            return None
        from opentelemetry import metrics, trace

        _STATE.globals = (trace.get_tracer_provider, metrics.get_meter_provider)
    tracing = _STATE.chosen[0] or _STATE.globals[0]()
    metering = _STATE.chosen[1] or _STATE.globals[1]()
    if _STATE.seen[0] is not tracing or _STATE.seen[1] is not metering:
        _STATE.seen = (tracing, metering)
        _STATE.on = _resolve(tracing, metering)
    return _STATE.on


def _resolve(tracing: TracerProvider, metering: MeterProvider) -> _On | None:
    from providers.meters import Meters, wants_newest

    tracer: Tracer | None = None
    if not _is_idle(tracing):
        tracer = tracing.get_tracer(_SCOPE)
        # OTEL_SDK_DISABLED leaves the SDK's provider in place and makes its tracers do nothing.
        tracer = None if _is_idle(tracer) else tracer
    meters = None if _is_idle(metering) else Meters(metering.get_meter(_SCOPE), newest=wants_newest())
    return None if tracer is None and meters is None else _On(tracer=tracer, meters=meters)


def _is_idle(part: object) -> bool:
    """Say whether this is the API's own stand-in, which records nothing until an SDK takes its place."""
    return type(part).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _shared(spec: ModelSpec, model: str, address: str | None = None) -> Attributes:
    """Return what spans and metrics of a model have in common."""
    return {
        "gen_ai.provider.name": provider_name(spec),
        "gen_ai.request.model": model,
        **server(spec, address),
    }


def _error_type(error: BaseException) -> str:
    if isinstance(error, ProviderError):
        return error.kind
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
