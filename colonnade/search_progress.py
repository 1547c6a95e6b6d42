"""Live progress of a search on stderr: trials, evaluations, the best so far, and what was spent."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from colonnade.cli.console import dollars, number, percent, stderr

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from flows.search import Round
    from flows.search_job import SearchJob
    from flows.session import Session

__all__ = ["SearchProgress"]


class SearchProgress:
    """One bar; silent where stderr is no terminal or where silence is wanted."""

    def __init__(self, job: SearchJob, *, quiet: bool) -> None:
        self._job = job
        self._items = 0
        self._best = ""
        self._spent = ""
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        if not quiet and stderr().is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bars = Progress(
                TextColumn("trials"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=stderr(),
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
            self._task = self._bars.add_task("trials", total=self._job.trials, note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the display."""
        if self._bars is not None:
            self._bars.stop()

    def item_done(self, session: Session) -> None:
        """Count an evaluation of one item."""
        self._items += 1
        if self._bars is not None and self._task is not None:
            paid = session.gateway.status().paid
            self._spent = f"{number(paid.calls)} calls, {dollars(paid.cost)}"
            self._show()

    def round_done(self, now: Round) -> None:
        """Move the bar to the trials that were asked, and name the best so far."""
        if self._bars is None or self._task is None:
            return
        if now.leader is not None:
            value = now.study.race.observations(now.state)[now.leader].values[0]
            shown = percent(value) if self._job.objectives[0] == "quality" else f"{value:.4g}"
            self._best = f"best {shown} (trial {now.leader}), "
        self._bars.update(self._task, completed=now.trials, total=min(self._job.trials, len(now.study.planned.points)))
        self._show()

    def _show(self) -> None:
        assert self._bars is not None
        assert self._task is not None
        note = f"{self._best}{number(self._items)} evaluations, {self._spent}".rstrip(", ")
        self._bars.update(self._task, note=note)
