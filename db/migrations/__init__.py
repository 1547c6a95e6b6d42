"""Alembic migrations, from the first table on, and `upgrade`, which brings a database to the newest under a lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection, Engine

__all__ = ["HEAD", "config", "upgrade"]

HEAD = "0004"
"""The newest revision, written down so that an up-to-date database is recognised without importing Alembic."""

_ADVISORY_LOCK = 0x434F_4C4F


def upgrade(engine: Engine) -> None:
    """Create or upgrade the schema; safe when many processes start at once.

    Raises `ConfigError` where the database was written by a newer Colonnade.
    """
    if _revision(engine) == HEAD:
        return
    with _locked(engine) as connection:
        _migrate(connection, str(engine.url.render_as_string(hide_password=True)))


def config(connection: Connection | None = None) -> Config:
    """Return the Alembic configuration, for `upgrade` and for the command line of a developer."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def _revision(engine: Engine) -> str | None:
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError, ProgrammingError

    with engine.connect() as connection:
        try:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except OperationalError as error:
            if "no such table" in str(error.orig):
                return None
            raise
        except ProgrammingError:
            return None


@contextlib.contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    from sqlalchemy import text

    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # The write lock is the lock, and it makes the whole upgrade one transaction: a process that dies in the
            # middle leaves no half-made schema.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ADVISORY_LOCK})
        yield connection
        connection.commit()


def _migrate(connection: Connection, shown: str) -> None:
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    settings = config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise ConfigError(
            f"The database {shown} was written by a newer Colonnade (revision {current}); "
            f"upgrade Colonnade or name another database."
        )
    command.upgrade(settings, "head")
