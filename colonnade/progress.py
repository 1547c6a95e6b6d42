"""Live progress on stderr: items done, and calls, tokens and dollars as they accrue."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from colonnade.cli.console import dollars, number, stderr

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from flows.session import Session

__all__ = ["Progress"]


class Progress:
    """One bar per evaluation; silent where stderr is no terminal or where silence is wanted."""

    def __init__(self, titles: list[str], planned: list[int], *, quiet: bool) -> None:
        self._titles = titles
        self._planned = planned
        self._bars: Bars | None = None
        self._tasks: dict[int, TaskID] = {}
        if not quiet and stderr().is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[spent]}"),
                console=stderr(),
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the display."""
        if self._bars is not None:
            self._bars.stop()

    def item_done(self, session: Session, evaluation: int, run_id: str) -> None:
        """Move an evaluation's bar on by one item."""
        if self._bars is None:
            return
        status = session.gateway.status()
        paid = status.paid
        tokens = paid.prompt_tokens + paid.completion_tokens
        spent = f"{number(paid.calls)} calls, {number(tokens)} tokens, {dollars(paid.cost)}"
        if evaluation not in self._tasks:
            title, planned = self._titles[evaluation], self._planned[evaluation]
            self._tasks[evaluation] = self._bars.add_task(title, total=planned, spent=spent)
        self._bars.update(self._tasks[evaluation], advance=1, spent=spent)
