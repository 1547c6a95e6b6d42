"""Drawing tokens from logits for a whole batch at once, each row from a random stream of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from providers.embedded.weights import F32

__all__ = ["Logprobs", "draw", "log_probabilities", "stream_start", "uniforms"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


class Logprobs(NamedTuple):
    """Natural-log probabilities of one position, of the distribution before temperature and top-p."""

    chosen: float
    top_tokens: I64
    top_values: F64


def _mix(state: U64) -> U64:
    """The output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def stream_start(seed: int) -> np.uint64:
    """Return where a seed's random stream starts; neighbouring seeds start far apart."""
    return np.uint64(_mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64))[0])


def uniforms(starts: U64, steps: U64) -> F64:
    """Return number `steps[i]` of the stream that starts at `starts[i]`, in [0, 1)."""
    bits = _mix(starts + (steps + np.uint64(1)) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(logits: F32, temperatures: F32, top_p: F32, uniform: F64) -> I64:
    """Draw one token a row, by inverse CDF in float64; temperature 0 takes the likeliest.

    `logits` (rows, vocab); the other arguments (rows,). top_p keeps the smallest set of likeliest tokens whose
    probability reaches it (Holtzman et al., arXiv 1904.09751).
    """
    greedy = temperatures <= 0.0
    likeliest: I64 = np.argmax(logits, axis=-1)
    if greedy.all():
        return likeliest
    scale = np.where(greedy, np.float32(1.0), temperatures)[:, None]
    weights = logits - logits.max(axis=-1, keepdims=True)
    np.divide(weights, scale, out=weights)
    np.exp(weights, out=weights)
    for row in np.flatnonzero(top_p < 1.0):
        _keep_nucleus(weights[row], float(top_p[row]))
    cumulated = np.cumsum(weights, axis=-1, dtype=np.float64)
    total = cumulated[:, -1]
    threshold = np.minimum(uniform * total, np.nextafter(total, 0.0))
    drawn: I64 = (cumulated <= threshold[:, None]).sum(axis=-1)
    return np.where(greedy, likeliest, drawn)


def _keep_nucleus(weights: F32, top_p: float) -> None:
    """Set the weights outside the nucleus to 0, in place."""
    order = np.argsort(-weights, kind="stable")
    cumulated = np.cumsum(weights[order], dtype=np.float64)
    kept = int(np.searchsorted(cumulated, top_p * cumulated[-1])) + 1
    weights[order[kept:]] = 0.0


def log_probabilities(logits: F32, token: int, top: int) -> Logprobs:
    """Return the log probability of a token and the `top` likeliest ones, from one row of logits."""
    exact = logits.astype(np.float64)
    exact -= exact.max()
    exact -= np.log(np.exp(exact).sum())
    likeliest = np.argsort(-exact, kind="stable")[:top] if top else np.empty(0, np.int64)
    return Logprobs(float(exact[token]), likeliest, exact[likeliest])
