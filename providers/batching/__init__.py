"""Providers' batch APIs inside a graph: calls gather, go out in batches at batch price, and come back."""

from providers.batching.base import BatchApi, BatchState, Line, Missing, Result
from providers.batching.collector import Batching, Collector, cancel_batches
from providers.batching.lane import Gathered
from providers.batching.report import BatchReport

__all__ = [
    "BatchApi",
    "BatchReport",
    "BatchState",
    "Batching",
    "Collector",
    "Gathered",
    "Line",
    "Missing",
    "Result",
    "cancel_batches",
]
