"""The logbook's file: whatever was there, it is upgraded, refused or set aside, and never made worse."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlite_utils import Database as Connection
from sqlite_utils import Migrations

from errors import CounterpointError, WorkFailed
from logbook import database as module
from logbook.database import FILE, Database


def steps(*names: str, broken: str | None = None) -> Migrations:
    """Migrations that each make a table of their name."""
    made = Migrations("logbook")
    for name in names:

        def step(db: Connection, name: str = name) -> None:
            db.execute(f"CREATE TABLE {name} (value TEXT)")
            if name == broken:
                raise sqlite3.OperationalError("database or disk is full")

        made(name=name)(step)
    return made


def add(database: Database, value: str, table: str = "first") -> None:
    with database.writing() as db:
        db.execute(f"INSERT INTO {table} VALUES (?)", [value])


def values(database: Database, table: str = "first") -> list[str]:
    with database.reading() as db:
        return [row[0] for row in db.execute(f"SELECT value FROM {table} ORDER BY rowid")]


@pytest.fixture
def first(tmp_path: Path) -> Database:
    """One of the first version with a line in it, closed."""
    database = Database(tmp_path, migrations=steps("first"))
    add(database, "a line")
    database.close()
    return database


def test_what_is_written_is_there_for_who_opens_it_next_and_nobody_else_may_read_it(
    tmp_path: Path, first: Database
) -> None:
    assert values(first) == ["a line"]
    again = Database(tmp_path, migrations=steps("first"))
    assert values(again) == ["a line"]
    add(again, "another")
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob(f"{FILE}*")} == {0}
    with again.reading() as db:
        assert db.journal_mode == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2, "full: a power cut loses no line"


def test_an_older_one_is_upgraded_after_a_copy_of_it_was_made(tmp_path: Path, first: Database) -> None:
    later = Database(tmp_path, migrations=steps("first", "second", "third"))
    add(later, "new", "third")
    assert values(later) == ["a line"]
    copy = tmp_path / f"{FILE}.before-upgrade-of-first"
    assert copy.stat().st_mode & 0o077 == 0
    with sqlite3.connect(copy) as raw:
        assert raw.execute("SELECT value FROM first").fetchall() == [("a line",)]
        assert not raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'second'").fetchall()


def test_an_upgrade_that_fails_leaves_what_was_there_and_is_made_again(
    tmp_path: Path, first: Database
) -> None:
    failing = Database(tmp_path, migrations=steps("first", "second", "third", broken="third"))
    with pytest.raises(WorkFailed, match="make room"):
        values(failing)
    with sqlite3.connect(tmp_path / FILE) as raw:
        assert raw.execute("SELECT value FROM first").fetchall() == [("a line",)]
        assert not raw.execute("SELECT 1 FROM sqlite_master WHERE name = 'third'").fetchall()
    later = Database(tmp_path, migrations=steps("first", "second", "third"))
    assert values(later) == ["a line"]
    assert values(later, "third") == []


def test_a_newer_one_is_refused_and_left_as_it_is(tmp_path: Path, first: Database) -> None:
    newer = Database(tmp_path, migrations=steps("first", "fourth"))
    add(newer, "of tomorrow", "fourth")
    newer.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(CounterpointError, match=r"of a newer Counterpoint \(fourth\): use that one") as told:
        values(first)
    assert "\n" not in str(told.value)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("damage", [b"this is no database at all", "middle"])
def test_a_damaged_one_is_set_aside_as_it_is_and_a_new_one_begins(
    tmp_path: Path, damage: bytes | str
) -> None:
    told: list[str] = []
    database = Database(tmp_path, told.append, steps("first"))
    for number in range(500):
        add(database, "x" * 200 + str(number))
    database.close()
    content = bytearray((tmp_path / FILE).read_bytes())
    if isinstance(damage, bytes):
        content = bytearray(damage)
    else:
        content[4096:] = b"\x17" * (len(content) - 4096)
    (tmp_path / FILE).write_bytes(content)
    assert values(database) == []
    [aside] = tmp_path.glob(f"{FILE}.damaged-*")
    assert aside.read_bytes() == content
    [line] = told
    assert aside.name in line
    assert ".recover" in line
    assert "\n" not in line
    add(database, "anew")
    assert values(database) == ["anew"]


def test_a_file_that_another_program_holds_is_one_line(
    first: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_S", 0.05)
    other = sqlite3.connect(first.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(WorkFailed, match="is held by another program: close that, and try again"):
        add(first, "never")
    other.execute("ROLLBACK")
    other.close()
    add(first, "now")
    assert values(first) == ["a line", "now"]


def test_a_full_disk_is_one_line_and_what_was_written_stays(first: Database) -> None:
    with first.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    with first.writing() as db:
        db.execute(f"PRAGMA max_page_count = {pages}")  # as SQLite tells a disk that takes no more
    with pytest.raises(WorkFailed, match=r"No space left on device\): make room"):
        add(first, "x" * 100_000)
    assert values(first) == ["a line"]


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for data in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(WorkFailed, match="choose another --data-dir") as told:
            values(Database(data, migrations=steps("first")))
        assert "\n" not in str(told.value)


def test_what_breaks_off_in_the_middle_leaves_nothing(first: Database) -> None:

    def break_off() -> None:
        with first.writing() as db:
            db.execute("INSERT INTO first VALUES ('half')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert values(first) == ["a line"]
    add(first, "whole")
    assert values(first) == ["a line", "whole"]


def _add_many(data: Path, name: str) -> None:
    database = Database(data, migrations=steps("first"))
    threads = [
        threading.Thread(target=lambda part=part: [add(database, f"{name}-{part}-{n}") for n in range(10)])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_and_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_add_many, args=(tmp_path, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    there = values(Database(tmp_path, migrations=steps("first")))
    assert len(there) == len(set(there)) == 120
