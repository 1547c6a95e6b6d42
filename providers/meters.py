"""The metrics of model calls, after OpenTelemetry's GenAI conventions.

The conventions are on the move. By default the names are those of v1.41.0, their last release; with
`OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` they are those of the `semantic-conventions-genai`
repository, which has replaced the histogram of tokens by counters and renamed the duration of an inference.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from providers.base import Usage
from providers.genai import Attributes

if TYPE_CHECKING:
    from decimal import Decimal

    from opentelemetry.metrics import Meter

__all__ = ["Meters", "wants_newest"]

_SECONDS = tuple(0.01 * 2**power for power in range(14))
_TOKENS = tuple(4**power for power in range(14))


def wants_newest() -> bool:
    """Say whether the user asks for the newest names."""
    return "gen_ai_latest_experimental" in os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").replace(" ", "").split(
        ","
    )


class Meters:
    """The instruments of one meter."""

    def __init__(self, meter: Meter, *, newest: bool) -> None:
        name = "gen_ai.client.inference.duration" if newest else "gen_ai.client.operation.duration"
        self._duration = meter.create_histogram(
            name, "s", "GenAI operation duration.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._tokens: _Counters | _Histogram = _Counters(meter) if newest else _Histogram(meter)
        self._cost = meter.create_counter("colonnade.client.cost", "{USD}", "Dollars paid, where the price is known.")
        self._cached = meter.create_counter(
            "colonnade.client.cached_samples", "{sample}", "Samples that were handed out and cost nothing."
        )

    def ended(self, seconds: float, attributes: Attributes) -> None:
        """Record an attempt."""
        self._duration.record(seconds, attributes)

    def used(self, usage: Usage, dollars: Decimal | None, attributes: Attributes) -> None:
        """Record what an attempt used; the conventions forbid tokens that were estimated here."""
        if not usage.estimated:
            self._tokens.record(usage, attributes)
        if dollars is not None:
            self._cost.add(float(dollars), attributes)

    def cached(self, samples: int, attributes: Attributes) -> None:
        """Record samples that cost nothing."""
        self._cached.add(samples, attributes)


class _Histogram:
    """`gen_ai.client.token.usage`, of v1.41.0."""

    def __init__(self, meter: Meter) -> None:
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def record(self, usage: Usage, attributes: Attributes) -> None:
        self._usage.record(usage.prompt_tokens, {**attributes, "gen_ai.token.type": "input"})
        self._usage.record(usage.completion_tokens, {**attributes, "gen_ai.token.type": "output"})


class _Counters:
    """`gen_ai.client.inference.usage.*`, which came after v1.41.0; all our messages are text."""

    def __init__(self, meter: Meter) -> None:
        place = "gen_ai.client.inference.usage"
        self._input = meter.create_counter(f"{place}.input_tokens", "{token}", "Input tokens, cached ones included.")
        self._output = meter.create_counter(f"{place}.output_tokens", "{token}", "Output tokens.")
        self._read = meter.create_counter(
            f"{place}.cache_read.input_tokens", "{token}", "Input tokens that the provider's cache served."
        )

    def record(self, usage: Usage, attributes: Attributes) -> None:
        attributes = {**attributes, "gen_ai.token.modality": "text"}
        self._input.add(usage.prompt_tokens, attributes)
        self._output.add(usage.completion_tokens, attributes)
        if usage.cached_prompt_tokens:
            self._read.add(usage.cached_prompt_tokens, attributes)
