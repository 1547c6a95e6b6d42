"""The ask/tell contract of samplers, and their register.

A sampler has no memory of its own: `start` makes a state, `ask_batch` and `tell` return new ones. After the example of
TreeQuest, whose algorithms have the same three methods.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

import numpy as np

from db.errors import ConfigError, UserError, did_you_mean
from search.trials import StudyState, Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.domain import Domain

__all__ = ["BUILT_IN", "GROUP", "Asked", "Sampler", "check_counts", "make_sampler", "sampler_names"]

GROUP: Final = "colonnade.samplers"
"""The entry-point group by which a package brings samplers: `name = "package.module:Class"`."""

BUILT_IN: Final = {
    "exhaustive": "search.samplers._exhaustive:Exhaustive",
    "gp": "search.samplers._gp:GaussianProcess",
    "greedy": "search.samplers._greedy:Greedy",
    "itas": "search.samplers._itas:Itas",
    "nsga2": "search.samplers._nsga2:Nsga2",
    "random": "search.samplers._random:Random",
    "tpe": "search.samplers._tpe:Tpe",
}


class Asked(NamedTuple):
    """The state after an ask, and the trials that are to be run."""

    state: StudyState
    trials: tuple[Trial, ...]


class Sampler(ABC):
    """A way of choosing what to try next among the points of a domain.

    A subclass defines `propose`, and keeps nothing between calls that is not derived from its arguments.
    """

    name: ClassVar[str]

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def start(self, seed: int) -> StudyState:
        """Return the state of a new study."""
        return StudyState.begin(self.domain, seed)

    def ask_batch(
        self, state: StudyState, n: int, *, costs: NDArray[np.float64] | None = None, first: Sequence[int] = ()
    ) -> Asked:
        """Ask for up to n trials to run at once.

        Fewer come where the domain is used up, or where the sampler has to wait for what it asked. No point is asked
        twice. `costs` stand in for the domain's: what an item of each point costs now that some samples are stored.
        The points in `first` come before the sampler's own, in their order; give the same ones at every ask, and those
        that were asked are passed over. Raises `ValueError` for an n below 1, a state of another domain, a point that
        the domain does not have, and a proposal that breaks the contract.
        """
        if n < 1:
            raise ValueError(f"a batch has at least one trial, not {n}")
        if state.domain != self.domain.digest:
            raise ValueError("the state belongs to another domain")
        if not all(0 <= point < len(self.domain) for point in first):
            raise ValueError(f"the points to begin with are not all among the {len(self.domain)} of the domain")
        asked = {*state.points}
        state, queued = state.asked([point for point in dict.fromkeys(first) if point not in asked][:n])
        seen = np.zeros(len(self.domain), dtype=np.bool_)
        seen[list(state.points)] = True
        n = min(n - len(queued), int((~seen).sum()))
        if not n:
            return Asked(state, queued)
        # One stream of numbers for each state: the same state proposes the same again.
        rng = np.random.default_rng((state.seed, len(state.trials), len(state.told)))
        points = self.propose(state, n, ~seen, rng, self.domain.costs if costs is None else costs)
        if len(points) > n or len(set(points)) < len(points) or any(seen[point] for point in points):
            raise ValueError(f"the sampler {self.name!r} proposed a point twice, or more points than were asked")
        state, trials = state.asked(map(int, points))
        return Asked(state, queued + trials)

    def tell(
        self,
        state: StudyState,
        trial_id: int,
        values: float | Sequence[float],
        *,
        items: int = 1,
        variance: float = 0.0,
    ) -> StudyState:
        """Return the state that also knows what a trial measured; see `StudyState.tell`."""
        return state.tell(trial_id, values, items=items, variance=variance)

    @abstractmethod
    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Return up to n different points that were not asked before; at least n are left."""


def sampler_names() -> tuple[str, ...]:
    """Name all samplers in alphabetical order, those of other packages included."""
    from importlib.metadata import entry_points

    return tuple(sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))}))


def make_sampler(name: str, domain: Domain, **options: float) -> Sampler:
    """Make a sampler by its name; raises `UserError` for an unknown name or option, and for a bad value of one."""
    cls = _class(name)
    # A job keeps options as floats, and a count is a whole number.
    given = {option: int(value) if float(value).is_integer() else value for option, value in options.items()}
    try:
        return cls(domain, **given)
    except TypeError as error:
        raise UserError(f"The sampler {name!r} does not take these options: {', '.join(options)}.") from error


def check_counts(**counts: float) -> None:
    """Raise `UserError` where an option of a sampler that counts something is no whole number from 1 up."""
    for option, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"The sampler's option {option!r} is a whole number from 1 up, not {value}.")


def _class(name: str) -> type[Sampler]:
    from importlib.metadata import entry_points

    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: object = getattr(importlib.import_module(module), attribute)
    else:
        points = {point.name: point for point in entry_points(group=GROUP)}
        if name not in points:
            raise UserError(f"There is no sampler {name!r}.{did_you_mean(name, sampler_names())}")
        found = points[name].load()
    if not (isinstance(found, type) and issubclass(found, Sampler)):
        raise ConfigError(f"The sampler {name!r} is no subclass of search.Sampler; reinstall or remove its package.")
    return found
