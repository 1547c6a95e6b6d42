"""The database: SQLite in `.colonnade/` by default, PostgreSQL by URL; created and upgraded on first use."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from db.errors import ConfigError
from db.writer import Writer

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

__all__ = ["DEFAULT_PATH", "URL_VARIABLE", "Database"]

DEFAULT_PATH = Path(".colonnade/colonnade.db")
URL_VARIABLE = "COLONNADE_DATABASE_URL"

Dialect = Literal["postgresql", "sqlite"]


class Database:
    """An open database with its schema up to date and one writer thread; use as a context manager or `close` it.

    SQLite runs in WAL mode with `synchronous=NORMAL`: a commit is handed to the kernel before it returns, so the
    death of the process (`kill -9`) loses nothing committed; only a power cut may take the last commits, and it
    takes them whole, without damage.
    """

    def __init__(self, engine: Engine, dialect: Dialect) -> None:
        self.engine = engine
        self.dialect: Dialect = dialect
        self.writer = Writer(engine, name=self.url_without_password)

    @classmethod
    def open(cls, url: str | None = None) -> Database:
        """Open by URL, by `COLONNADE_DATABASE_URL`, or `.colonnade/colonnade.db`; bring the schema up to date.

        Raises `ConfigError` where the URL cannot be read, the database cannot be reached, or it was written by a
        newer Colonnade.
        """
        from sqlalchemy.exc import DBAPIError

        from db.migrations import upgrade

        address = _address(url or os.environ.get(URL_VARIABLE) or f"sqlite:///{DEFAULT_PATH}")
        dialect: Dialect = "sqlite" if address.get_backend_name() == "sqlite" else "postgresql"
        engine = _engine(address, dialect)
        try:
            upgrade(engine)
        except DBAPIError as error:
            engine.dispose()
            shown = address.render_as_string(hide_password=True)
            reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
            raise ConfigError(f"The database {shown} cannot be used: {reason}; set {URL_VARIABLE}.") from None
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, dialect)

    @property
    def url_without_password(self) -> str:
        """The address as it may be shown."""
        return self.engine.url.render_as_string(hide_password=True)

    def sql(self, text: str) -> str:
        """Turn the `?` of a statement into the driver's own placeholder."""
        return text if self.dialect == "sqlite" else text.replace("?", "%s")

    def begin(self) -> Connection:
        """Return a connection for use in a `with` block; commit it yourself."""
        return self.engine.connect()

    def close(self) -> None:
        """Commit what the writer still holds and give back all connections; harmless when repeated."""
        self.writer.close()
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _address(url: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(url)
    except ArgumentError:
        raise ConfigError(
            f"{URL_VARIABLE} is no database URL; write sqlite:///path/to/file.db or postgresql://user@host/name."
        ) from None
    backend = address.get_backend_name()
    if backend == "sqlite":
        if address.database in (None, "", ":memory:"):
            raise ConfigError("An SQLite database in memory cannot be shared by threads; name a file.")
        return address.set(drivername="sqlite")
    if backend == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    raise ConfigError(f"Databases of the kind '{backend}' are not supported; use sqlite:/// or postgresql://.")


def _engine(address: URL, dialect: Dialect) -> Engine:
    from sqlalchemy import create_engine, event

    if dialect == "postgresql":
        try:
            return create_engine(address, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise ConfigError("PostgreSQL needs its driver: pip install 'colonnade[postgres]'.") from None
    path = Path(str(address.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder {path.parent} for the database cannot be made: {error.strerror}.") from None
    engine = create_engine(address, connect_args={"timeout": 30.0})
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: object, _record: object) -> None:
    import sqlite3

    if not isinstance(connection, sqlite3.Connection):
        raise TypeError(f"expected an SQLite connection, got {type(connection).__name__}")
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()
