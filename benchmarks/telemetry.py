"""What spans and metrics cost a call: where nothing is set up, and where an SDK records and throws away.

    python benchmarks/telemetry.py [--json]

Each figure is the microseconds of one attempt with its answer, or of one plain span with a few attributes, the least of
seven rounds. "off" is a process that never imported OpenTelemetry, "API" one that did (Prefect does) without an SDK,
"SDK" records spans and metrics and drops them; it needs opentelemetry-sdk.
"""

from __future__ import annotations

import argparse
import json
import timeit

from providers.base import Completion, Message, Reply, Sampling, Usage, WireRequest
from providers.models import ModelSpec
from providers.telemetry import attempt, configure, span

ROUNDS, TIMES = 7, 5_000
SPEC = ModelSpec(name="m", transport="openai", model="test", base_url="http://127.0.0.1:8000/v1")
REQUEST = WireRequest(
    model="test",
    messages=(Message("user", "What is 2 + 3?"),),
    sampling=Sampling(temperature=0.8, max_tokens=256),
    indices=(0,),
    seeds=(1,),
)
REPLY = Reply(completions=(Completion(text="5", finish_reason="stop", usage=Usage(12, 3)),), served_model="test")


def one_attempt() -> None:
    """Do what the gateway does around an attempt."""
    with attempt(SPEC, REQUEST, number=1, address="http://127.0.0.1:8000/v1") as opened:
        opened.answered(REPLY)


def one_span() -> None:
    """Do what the runner does around an item."""
    with span("item", {"colonnade.run.id": "r", "colonnade.item.id": "i"}) as opened:
        if opened.recording:
            opened.set({"colonnade.total.calls": 1})


def measured(state: str) -> dict[str, float]:
    """Return the microseconds of both in the state that the process is in."""
    return {
        f"{state}_{name}_us": round(1e6 * min(timeit.repeat(work, number=TIMES, repeat=ROUNDS)) / TIMES, 2)
        for name, work in (("attempt", one_attempt), ("span", one_span))
    }


def main() -> None:
    """Measure the three states in their order, since an import cannot be taken back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    figures = measured("off")
    import opentelemetry.trace  # noqa: F401 - what Prefect does

    figures |= measured("api")
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        print("opentelemetry-sdk is not installed, so nothing can be recorded")
    else:
        configure(
            tracer_provider=TracerProvider(shutdown_on_exit=False), meter_provider=MeterProvider(shutdown_on_exit=False)
        )
        figures |= measured("sdk")
    for name, value in figures.items():
        print(f"{name:<16} {value:8.2f}")
    if chosen.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
