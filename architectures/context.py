"""What a node may use while it runs: its name, the kind of answer, and the way to the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from architectures.lanes import LANE
from nodes.base import Embedded, Measured
from nodes.prompting import render
from providers.base import Asked, Message, Request, Sampling
from providers.embedding import EmbedRequest
from providers.errors import AuthError, ProviderError
from providers.scoring import ScoreRequest

if TYPE_CHECKING:
    from nodes.base import AnswerKind, State
    from providers.gateway import Gateway
    from providers.scope import Scope
    from providers.scoring import ScoreKind

__all__ = ["NodeContext", "Run"]

_DEFAULT_SAMPLING = Sampling()


@dataclass(slots=True, kw_only=True)
class Run:
    """One question on its way through an architecture: what it may use and what is known of it so far."""

    gateway: Gateway
    scope: Scope
    answer_kind: AnswerKind
    trace: dict[str, State] = field(default_factory=dict)
    """What each node handed on, by the node's id with those of the nodes around it before it, in order of finishing."""
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Nodes that had nothing to hand on, with the reason; others went on without them."""
    seconds: dict[str, float] = field(default_factory=dict)
    fatal: Exception | None = None
    """What ends the run: nodes under way finish, since their calls will be paid for, and no other one starts."""
    lane_counts: dict[tuple[int, Request], int] = field(default_factory=dict)

    def stop(self, error: Exception) -> None:
        """Let no other node start; the first error is the one that counts."""
        self.fatal = self.fatal or error

    def go_on(self) -> None:
        """Raise what ends the run, if something has."""
        if self.fatal is not None:
            raise self.fatal


@dataclass(frozen=True, slots=True)
class NodeContext:
    """The `Context` of one node and one question."""

    node: str
    lane: int
    of: Run

    @property
    def answer_kind(self) -> AnswerKind:
        """How the task's answers are to be extracted and compared."""
        return self.of.answer_kind

    async def ask(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int = 1,
        sampling: Sampling | None = None,
        first: int | None = None,
        system: str | None = None,
        prefix: str | None = None,
        cancellable: bool = False,
    ) -> Asked:
        """Render a prompt in the model's style and ask for n samples; see `nodes.base.Context.ask`."""
        run = self.of
        messages = render(run.gateway.spec(model).style, template, variables, system=system)
        if prefix is not None:
            messages = (*messages, Message("assistant", prefix))
        request = Request(
            model=model,
            messages=messages,
            sampling=sampling or _DEFAULT_SAMPLING,
            continue_final=prefix is not None,
        )
        if self.lane:
            if first is None:
                key = (self.lane, request)
                first = run.lane_counts.get(key, 0)
                run.lane_counts[key] = first + n
            # A node may give a first index of its own, or one that it was told with an earlier sample.
            first += 0 if first >= LANE else self.lane * LANE
        return await run.gateway.ask(request, n, scope=run.scope, node=self.node, first=first, cancellable=cancellable)

    async def stored(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int,
        sampling: Sampling | None = None,
        first: int = 0,
        system: str | None = None,
    ) -> frozenset[int]:
        """Tell which samples are kept from before; see `nodes.base.Context.stored`."""
        run = self.of
        messages = render(run.gateway.spec(model).style, template, variables, system=system)
        request = Request(model=model, messages=messages, sampling=sampling or _DEFAULT_SAMPLING)
        moved = self.lane * LANE
        found = await run.gateway.stored(request, n, scope=run.scope, first=first + moved)
        return frozenset(index - moved for index in found)

    async def score(
        self,
        model: str,
        kind: ScoreKind,
        template: str,
        variables: Mapping[str, object],
        *,
        reply: str | None = None,
    ) -> Measured:
        """Score text with a model; see `nodes.base.Context.score`."""
        run = self.of
        messages = render(run.gateway.spec(model).style, template, variables)
        if reply is not None:
            messages = (*messages, Message("assistant", reply))
        request = ScoreRequest(model=model, messages=messages, kind=kind)
        try:
            return Measured((await run.gateway.score(request, scope=run.scope, node=self.node)).value)
        except AuthError:
            raise
        except ProviderError as error:
            return Measured(None, error)

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Return one vector for each text; see `nodes.base.Context.embed`."""
        run = self.of
        request = EmbedRequest(model=model, texts=tuple(texts))
        try:
            return Embedded((await run.gateway.embed(request, scope=run.scope, node=self.node)).vectors)
        except AuthError:
            raise
        except ProviderError as error:
            return Embedded(None, error)
