"""The parts of an architecture's bill, each with a sign that is equal where the calls are equal.

The architecture is walked with signs in the place of texts. A call's sign is made of all that goes into its key: the
technique, the model, the settings that reach the prompt or the sampling, the signs of the texts that are shown, and the
sample index. What a model says is determined by its call, so the sign of a call is also the sign of the reply. What
cannot be followed that far (a technique without a rule here or of another package, a loop, a node under a condition)
is one part, equal only where the whole node, all that it receives and all that was asked before it are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast

from architectures.lanes import lanes
from nodes.critique import Critique
from nodes.fuse import Fuse
from nodes.generate import Generate
from nodes.judge import Judge
from nodes.rank import Rank
from nodes.refine import Refine
from nodes.unit_test_evaluate import UnitTestEvaluate
from nodes.unit_test_generate import UnitTestGenerate
from nodes.verify import Verify
from nodes.vote import Vote

if TYPE_CHECKING:
    from architectures.lanes import Lanes
    from architectures.spec import AnyNode, ArchitectureSpec
    from nodes.base import Technique
    from nodes.choosing import OnNone
    from nodes.settings import SeveralModels

__all__ = ["CallCosts", "Part", "Signs", "parts"]

CallCosts: TypeAlias = Mapping[str, Sequence[float]]
"""What each node's calls cost for one question, by its id, in the order of its plan."""


class Part(NamedTuple):
    """Some calls of an architecture, and what they cost for one question."""

    sign: int
    cost: float


class Signs:
    """Numbers for whatever determines a text or a call; equal things have equal numbers."""

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], int] = {}

    def of(self, *what: Hashable) -> int:
        """Return the number of something."""
        return self._known.setdefault(what, len(self._known))


class _State(NamedTuple):
    """Signs of what flows along an edge."""

    candidates: tuple[int, ...] | None
    """The texts in any order; None where how many there are depends on what was said."""
    text: int
    """All texts in their order."""
    critiques: int | None = None
    tests: int | None = None


def parts(spec: ArchitectureSpec, costs: CallCosts, signs: Signs) -> list[Part]:
    """Return the parts of an architecture's bill; their costs add up to all of `costs`."""
    walk = _Walk(signs=signs, costs=costs, lanes=lanes(spec))
    walk.graph(spec, _State((), signs.of("all", ())), ())
    return walk.parts


@dataclass(slots=True, kw_only=True)
class _Walk:
    signs: Signs
    costs: CallCosts
    lanes: Lanes
    parts: list[Part] = field(default_factory=list)
    taken: dict[tuple[int, int], int] = field(default_factory=dict)
    """How often each request was made, by lane: what the sample index counts."""

    def graph(self, spec: ArchitectureSpec, start: _State, path: tuple[str, ...]) -> _State:
        """Walk through a graph from what it receives to what it hands on."""
        states: dict[str, _State] = {}
        for node in spec.ordered:
            received = self._joined([states[name] for name in node.after]) if node.after else start
            states[node.id] = self._node(node, received, (*path, node.id))
        return self._joined([states[name] for name in spec.output])

    def _node(self, node: AnyNode, state: _State, path: tuple[str, ...]) -> _State:
        if node.when is None and node.kind == "architecture":
            return self.graph(node.spec, state, path)
        if node.when is None and node.kind == "technique" and type(node.settings) in _RULES:
            costs = self.costs[".".join(path)]
            return _RULES[type(node.settings)](_Asker(self, node.settings, costs, self.lanes.get(path, 0)), state)
        return self._whole(node, state, path)

    def _whole(self, node: AnyNode, state: _State, path: tuple[str, ...]) -> _State:
        # Its requests are not known, so any request before it, and its lanes, may move the indices of its samples.
        inner = sorted((other[len(path) :], lane) for other, lane in self.lanes.items() if other[: len(path)] == path)
        what = self.signs.of("whole", node.model_dump_json(exclude={"id", "after"}), *state[1:], *inner)
        before = tuple(sorted(self.taken.items()))
        index = self.taken[0, what] = self.taken.get((0, what), -1) + 1
        sign, name = self.signs.of(what, before, index), ".".join(path)
        cost = sum(sum(costs) for other, costs in self.costs.items() if f"{other}.".startswith(f"{name}."))
        self.parts.append(Part(sign, cost))
        return _State(None, sign, sign, sign)

    def _joined(self, states: Sequence[_State]) -> _State:
        if len(states) == 1:
            return states[0]
        in_order = [s.candidates or () for s in states if s.text == self.signs.of("all", s.candidates)]
        critiques, tests = self._several([s.critiques for s in states]), self._several([s.tests for s in states])
        if len(in_order) < len(states):
            return _State(None, self.signs.of("joined", *(state.text for state in states)), critiques, tests)
        both = tuple(dict.fromkeys(sign for candidates in in_order for sign in candidates))
        return _State(both, self.signs.of("all", both), critiques, tests)

    def _several(self, signs: Sequence[int | None]) -> int | None:
        known = tuple(dict.fromkeys(sign for sign in signs if sign is not None))
        return self.signs.of("several", *known) if len(known) > 1 else known[0] if known else None


@dataclass(frozen=True, slots=True)
class _Asker:
    """One node on the walk."""

    walk: _Walk
    settings: Technique
    costs: Sequence[float]
    lane: int

    @property
    def cost(self) -> float:
        """What all its calls cost."""
        return sum(self.costs)

    def config(self, *without: str) -> int:
        """Return the sign of its settings, but for those that reach no call."""
        values = (value for name, value in self.settings if name not in without)
        return self.walk.signs.of(type(self.settings).__name__, *values)

    def of(self, *what: Hashable) -> int:
        """Return the number of something."""
        return self.walk.signs.of(*what)

    def ask(self, cost: float, *request: Hashable) -> int:
        """Take the next sample of a request; the sign is that of the call and of its reply."""
        key = (self.lane, self.of("request", *request))
        index = self.walk.taken[key] = self.walk.taken.get(key, -1) + 1
        sign = self.of("call", *key, index)
        self.walk.parts.append(Part(sign, cost))
        return sign

    def made(self, state: _State, candidates: tuple[int, ...] | None, text: int | None = None) -> _State:
        """Return the state with new candidates, which have no critiques yet."""
        return _State(candidates, self.of("all", candidates) if text is None else text, None, state.tests)

    def kept(self, state: _State, keep: int | None, *order: Hashable) -> _State:
        """Return the state in a new order, of which only the first go on; a lone candidate always does."""
        if state.candidates is not None and len(state.candidates) == 1:
            return state
        ordered = self.of("ordered", *order, state.text)
        if keep is None or (state.candidates is not None and keep >= len(state.candidates)):
            return state._replace(text=ordered)
        if state.candidates is None:
            return state._replace(text=self.of("first", ordered, keep))
        places = tuple(self.of("place", ordered, place) for place in range(keep))
        return state._replace(candidates=places, text=self.of("all", places))

    def filtered(self, state: _State, *, on_none: OnNone, by: Hashable = None) -> _State:
        """Return the state that some candidates are left of; a lone one goes on whatever was said, but for `fail`."""
        if state.candidates is not None and len(state.candidates) == 1 and on_none != "fail":
            return state
        return state._replace(candidates=None, text=self.of("passed", self.config(), state.text, by))


def _samples(asker: _Asker, state: _State, *shown: Hashable) -> _State:
    settings, config = cast("SeveralModels", asker.settings), asker.config("model", "samples")
    calls = [
        asker.ask(cost / settings.samples, config, model, *shown)
        for model, cost in zip(settings.model_list, asker.costs, strict=True)
        for _ in range(settings.samples)
    ]
    return asker.made(state, tuple(calls))


def _each(asker: _Asker, state: _State, config: int, *shown: Hashable) -> tuple[int, ...] | None:
    """Ask about every candidate; return the calls, or None where they could not be told apart."""
    if state.candidates is None:
        asker.ask(asker.cost, config, state.text, *shown)
        return None
    share = asker.cost / max(1, len(state.candidates))
    return tuple(asker.ask(share, config, candidate, *shown) for candidate in state.candidates)


def _generate(asker: _Asker, state: _State) -> _State:
    return _samples(asker, state, state.tests if cast("Generate", asker.settings).show_tests else None)


def _fuse(asker: _Asker, state: _State) -> _State:
    return _samples(asker, state, state.text, state.critiques if cast("Fuse", asker.settings).use_critiques else None)


def _critique(asker: _Asker, state: _State) -> _State:
    call = asker.ask(asker.cost, asker.config(), state.text)
    return state._replace(critiques=call if state.critiques is None else asker.of("critiques", call, state.critiques))


def _rank(asker: _Asker, state: _State) -> _State:
    settings = cast("Rank", asker.settings)
    count = None if state.candidates is None else len(state.candidates)
    if count == 1:
        return state
    keep = settings.keep if count is None or settings.keep is None else min(settings.keep, count)
    critiques = state.critiques if settings.use_critiques else None
    if settings.method == "pairwise":
        config = asker.config("keep")
        pairs = [*permutations(state.candidates, 2)] if state.candidates else [(state.text,)]
        for pair in pairs:
            asker.ask(asker.cost / len(pairs), config, *pair, critiques)
        return asker.kept(state, keep, config, critiques)
    # The prompt says how many will be kept, all of them being the same as no number.
    said = None if keep == count else keep
    return asker.kept(state, keep, asker.ask(asker.cost, asker.config("keep"), said, state.text, critiques))


def _judge(asker: _Asker, state: _State) -> _State:
    config = asker.config("keep")
    _each(asker, state, config)
    return asker.kept(state, cast("Judge", asker.settings).keep, config)


def _verify(asker: _Asker, state: _State) -> _State:
    _each(asker, state, asker.config("on_none"))
    return asker.filtered(state, on_none=cast("Verify", asker.settings).on_none)


def _refine(asker: _Asker, state: _State) -> _State:
    calls = _each(asker, state, asker.config(), state.critiques)
    in_order = calls is not None and state.text == asker.of("all", state.candidates)
    return asker.made(state, calls, None if in_order else asker.of("refined", asker.config(), *state[1:]))


def _vote(asker: _Asker, state: _State) -> _State:
    return asker.kept(state, 1, asker.config())


def _unit_tests(asker: _Asker, state: _State) -> _State:
    return state._replace(tests=asker.ask(asker.cost, asker.config()))


def _tested(asker: _Asker, state: _State) -> _State:
    settings, config = cast("UnitTestEvaluate", asker.settings), asker.config("keep", "on_none")
    _each(asker, state, config, state.tests)
    if settings.keep == "all_passed":
        return asker.filtered(state, on_none=settings.on_none, by=state.tests)
    return asker.kept(state, None if settings.keep == "all" else settings.keep, config, state.tests)


_RULES: Final[Mapping[type[Technique], Callable[[_Asker, _State], _State]]] = {
    Critique: _critique,
    Fuse: _fuse,
    Generate: _generate,
    Judge: _judge,
    Rank: _rank,
    Refine: _refine,
    UnitTestEvaluate: _tested,
    UnitTestGenerate: _unit_tests,
    Verify: _verify,
    Vote: _vote,
}
