"""What came out of one question: the answer, and the whole way to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.base import Candidate, State

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer of an architecture to one question, with the trace of every node.

    The ids of nodes inside a loop or a nested architecture have those of the nodes around them before them:
    `improve.2.critique` is the node `critique` in the second round of the loop `improve`.
    """

    candidate: Candidate
    """The first candidate of the output."""
    state: State
    """What the output handed on."""
    trace: Mapping[str, State]
    """What each node handed on, in order of finishing; nodes that were skipped or left empty are not in it."""
    skipped: tuple[str, ...] = ()
    """Nodes whose condition did not hold."""
    failed: Mapping[str, str]
    """Nodes that had nothing to hand on, because their calls failed, with the reason."""
    seconds: Mapping[str, float]
    """Wall seconds by node."""

    @property
    def answer(self) -> str:
        """The text of the answer."""
        return self.candidate.text
