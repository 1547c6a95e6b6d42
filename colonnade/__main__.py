"""The command line's entry point: turns errors into one clear sentence and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Run the command line; exit code 2 for a usage mistake, 1 for a failed run, 130 after Ctrl-C."""
    _leave_working_directory()
    from colonnade.cli import app
    from colonnade.cli.console import say_error
    from colonnade.logs import configure_logs
    from db.errors import ColonnadeError, UserError

    try:
        configure_logs()
        app()
    except UserError as error:
        say_error(str(error))
        sys.exit(2)
    except ColonnadeError as error:
        say_error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        say_error("Stopped.")
        sys.exit(130)


def _leave_working_directory() -> None:
    """Take the working directory out of the import path: a user's own `nodes/` or `flows/` must not shadow ours."""
    home = Path(__file__).resolve().parent.parent
    here = Path.cwd().resolve()
    if here != home:
        sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != here]


if __name__ == "__main__":
    main()
