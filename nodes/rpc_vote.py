"""RPC vote: perplexity consistency with reasoning pruning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from nodes.ballots import Ballot, Read
from nodes.base import Candidate, Note
from nodes.election import Election, Weighed
from nodes.registry import technique
from nodes.weibull import fit_mixture

__all__ = ["RPCVote"]


class _Pruned(NamedTuple):
    paths: frozenset[tuple[str, str]]
    notes: tuple[Note, ...]


@technique("rpc_vote")
class RPCVote(Election):
    """Weigh each answer by the probability of the paths that lead to it, after unlikely paths are pruned.

    A path is the text of a candidate under its model. Its probability p is e to the mean log probability of its tokens
    (as in the paper's code) or, with `probability: path`, to their sum (as in its formula), so candidates must be
    generated with `top_logprobs: 0` or more. By the sum short paths weigh more than long ones, and where samples repeat
    a path it comes near to the share that the path has among all samples. Perplexity consistency:
    an answer weighs the sum of p over its different paths; the same path drawn twice counts once. Reasoning pruning: a
    mixture of two Weibull distributions is fitted to the p of all paths, and a path is left out where it belongs to the
    lower component with a probability above a half and its p is below the mean. The winner's score is its share of
    what is left, a confidence; the winner's likeliest path stands for it.

    The paper's code fits to all samples, repeated ones too, and tries one start of the fit; here paths that repeat are
    one, so that a copy of a candidate changes nothing at all, and p is measured in units of its mean, so that only
    ratios matter. With fewer than `min_paths` paths nothing is pruned. A candidate without log probabilities weighs
    nothing and is noted; where none has any, each vote weighs 1.

    When to use it: in place of a vote where samples are few and the model's probabilities are worth something; it costs
        no call. Long chains of nearly equal probability give it nothing to work with.
    Calls: 0.
    Paper: A Theoretical Study on Bridging Internal Probability and Self-Consistency for LLM Reasoning (arXiv
        2502.00511).
    Symbols: p is the probability of a path, w the share of a component, in 0.2..0.8; `agreement` = weight of the winner
        / all weight (the paper's confidence); `pruned` = paths left out / paths; `answers` = candidates that state an
        answer; `distinct_answers` = answers among them.
    Example:
        ```yaml
        name: rpc
        layers:
          - generate: {model: fast, samples: 16, temperature: 0.8, top_logprobs: 0}
          - rpc_vote
        ```
    """

    measures = frozenset({"agreement", "answers", "distinct_answers", "pruned"})
    unheld: ClassVar[Mapping[str, float]] = {"pruned": 0.0}

    probability: Literal["mean", "path"] = Field(
        default="mean", description="What p is: e to the mean log probability of the tokens, or to their sum."
    )
    prune: bool = Field(default=True, description="Leave out unlikely paths; false is perplexity consistency alone.")
    min_paths: int = Field(default=4, ge=2, description="Fewest different paths that a mixture is fitted to.")

    def weigh(self, read: Read, node: str) -> Weighed:
        """Weigh each path once, and those that are pruned at nothing."""
        paths = self._probabilities(read)
        silent = [voter.id for voter in read.voters if voter.mean_logprob is None]
        if len(silent) == len(read.voters):
            detail = "no candidate has log probabilities (generate with top_logprobs: 0); all votes weigh the same"
            return Weighed(None, (Note(node, "fallback", detail),), {"pruned": 0.0})
        notes = (Note(node, "unparsed", f"no log probabilities in {', '.join(silent)}"),) if silent else ()
        pruned = self._pruned(paths, read, node)
        seen = set(pruned.paths)
        weights: dict[str, float] = {}
        for voter in read.voters:
            weights[voter.id] = 0.0 if _path(voter) in seen else paths.get(_path(voter), 0.0)
            seen.add(_path(voter))
        return Weighed(weights, (*notes, *pruned.notes), {"pruned": len(pruned.paths) / len(paths)})

    def _probabilities(self, read: Read) -> dict[tuple[str, str], float]:
        """Return p of each path; with `path` in units of the likeliest, since the p of long paths are no floats."""
        logs: dict[tuple[str, str], float] = {}
        for candidate in read.candidates:
            if candidate.mean_logprob is not None:
                tokens = len(candidate.logprobs or ()) or candidate.completion_tokens
                log = candidate.mean_logprob * (tokens if self.probability == "path" else 1)
                logs[_path(candidate)] = max(log, logs.get(_path(candidate), -math.inf))
        top = max(logs.values(), default=0.0) if self.probability == "path" else 0.0
        return {path: max(math.exp(log - top), 1e-300) for path, log in logs.items()}

    def speaker(self, winner: Ballot, weighed: Weighed) -> Candidate:
        """Choose the likeliest path of the winner, by the rule for ties among equals."""
        if weighed.weights is None:
            return super().speaker(winner, weighed)
        most = max(weighed.weights[voter.id] for voter in winner.voters)
        likeliest = tuple(voter for voter in winner.voters if weighed.weights[voter.id] == most)
        return super().speaker(winner._replace(voters=likeliest), weighed)

    def _pruned(self, paths: Mapping[tuple[str, str], float], read: Read, node: str) -> _Pruned:
        if not self.prune:
            return _Pruned(frozenset(), ())
        if len(paths) < self.min_paths:
            detail = f"{len(paths)} different paths are too few for a mixture of two distributions; none is pruned"
            return _Pruned(frozenset(), (Note(node, "skipped", detail),))
        values = list(paths.values())
        mixture = fit_mixture(values)
        if mixture is None:
            return _Pruned(frozenset(), (Note(node, "fallback", "the mixture cannot be fitted; no path is pruned"),))
        mean = math.fsum(values) / len(values)
        high = mixture.probability_high(values)
        # The values of one and the same p may differ from their mean by rounding; they are not below it.
        low = frozenset(
            path
            for (path, p), chance in zip(paths.items(), high, strict=True)
            if chance < 0.5 and p < mean * (1 - 1e-9)
        )
        if all(_path(voter) in low or _path(voter) not in paths for voter in read.voters):
            detail = "every path with an answer would be pruned; none is"
            return _Pruned(frozenset(), (Note(node, "fallback", detail),))
        return _Pruned(low, ())


def _path(candidate: Candidate) -> tuple[str, str]:
    return (candidate.model or "", candidate.text)
