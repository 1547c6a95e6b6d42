"""Opening, migrating and refusing databases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from db.database import Database
from db.errors import ConfigError
from db.migrations import HEAD, config
from db.tables import metadata


def test_the_migrations_make_exactly_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        made = {table for table in inspect(connection).get_table_names() if table != "alembic_version"}
    assert made == set(metadata.tables)


def test_the_head_that_is_written_down_is_alembics_head() -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == HEAD


def test_downgrade_takes_everything_away_and_upgrade_brings_it_back(database: Database) -> None:
    from alembic import command

    from db.migrations import upgrade

    with database.engine.connect() as connection:
        command.downgrade(config(connection), "base")
        connection.commit()
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    upgrade(database.engine)
    with database.engine.connect() as connection:
        assert set(metadata.tables) < set(inspect(connection).get_table_names())


def test_opening_again_keeps_what_is_there(url: str) -> None:
    with Database.open(url) as database, database.engine.begin() as connection:
        connection.execute(text("INSERT INTO architecture VALUES ('a', 'n', '{}', '2026-01-01')"))
    with Database.open(url) as database, database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM architecture")).scalar() == 1


def test_many_processes_may_create_one_database_at_once(url: str) -> None:
    program = f"from db.database import Database; Database.open({url!r}).close()"
    started = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(5)]
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    with Database.open(url) as database, database.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [HEAD]


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    with Database.open(url) as database, database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="written by a newer Colonnade"):
        Database.open(url)


def test_sqlite_is_in_wal_mode_with_its_settings(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path}/x.db") as database, database.engine.connect() as connection:
        got = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert got == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 30000, "foreign_keys": 1}


def test_the_default_lies_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLONNADE_DATABASE_URL", raising=False)
    Database.open().close()
    assert (tmp_path / ".colonnade" / "colonnade.db").is_file()


def test_the_variable_names_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLONNADE_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    with Database.open() as database:
        assert database.url_without_password.endswith("other.db")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is no database URL"),
        ("mysql://u@h/d", "kind 'mysql' are not supported"),
        ("sqlite://", "in memory cannot be shared"),
        ("sqlite:////proc/nowhere/x.db", "cannot be made"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Database.open(url)


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        Database.open("postgresql://someone:hunter2@127.0.0.1:1/x")
    assert "127.0.0.1:1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, but a text that is long enough to be looked at" * 20)
    with pytest.raises(ConfigError, match="not a database"):
        Database.open(f"sqlite:///{tmp_path}/x.db")
