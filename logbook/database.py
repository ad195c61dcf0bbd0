"""The logbook's file: one SQLite database in the data folder, upgraded step by step and never made worse.

Any thread, and several processes, may use it at once: each thread has a connection of its own, and what is written is on
disk when the call returns (WAL, synchronous=FULL).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlite_utils import Database as Connection
from sqlite_utils import Migrations

from errors import CounterpointError, WorkFailed
from logbook.schema import MIGRATIONS

FILE = "logbook.sqlite3"
LOCK_S = 10.0
"""How long who writes waits for another who does."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """Opens the file when it is first needed. Raises what `reading` and `writing` raise."""

    def __init__(
        self,
        data: Path,
        announce: Callable[[str], None] = lambda told: None,
        migrations: Migrations = MIGRATIONS,
    ) -> None:
        """`announce` is told in one line of a damaged file that was set aside."""
        self.path = data / FILE
        self._announce, self._migrations = announce, migrations
        self._local, self._opening, self._is_sound = threading.local(), threading.Lock(), False
        self._connections: list[Connection] = []

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One state of the file, whatever others write meanwhile. Raises WorkFailed where it cannot be read, and
        CounterpointError for one of a newer Counterpoint."""
        yield from self._transaction("BEGIN")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All that is written in it, or nothing; on disk when it ends. Raises as `reading`, and where it cannot be
        written."""
        yield from self._transaction("BEGIN IMMEDIATE")

    def check(self) -> None:
        """Opens the file, if that was not done. Raises as `reading`."""
        with self.reading():
            pass

    def close(self) -> None:
        """Frees the file; who uses it afterwards opens it again."""
        with self._opening:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._local, self._is_sound = threading.local(), False

    def _transaction(self, begin: str) -> Iterator[Connection]:
        try:
            connection = self._connection()
            connection.execute(begin)
            try:
                yield connection
                connection.commit()
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.rollback()
                raise
        except sqlite3.Error as error:
            raise self._told(error) from None

    def _connection(self) -> Connection:
        """This thread's."""
        found: Connection | None = getattr(self._local, "connection", None)
        if found is None:
            with self._opening:
                if not self._is_sound:
                    self._make_sound()
                    self._is_sound = True
                found = self._local.connection = self._connect()
                self._connections.append(found)
        return found

    def _connect(self) -> Connection:
        # Closed by another thread than the one that uses it.
        raw = sqlite3.connect(self.path, timeout=LOCK_S, check_same_thread=False)
        try:
            raw.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
        except sqlite3.Error:
            raw.close()
            raise
        return Connection(raw, execute_plugins=False)

    # --- opening

    def _make_sound(self) -> None:
        """Leaves a file that is whole and of this version, whatever was there. One process at a time does that."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(self.path.with_name(f".{FILE}.lock"), timeout=LOCK_S):
                if self.path.exists() and self._is_damaged():
                    self._set_aside()
                # Only its owner reads what was said; SQLite gives its other files the same mode. One that is there is
                # never opened but by SQLite: to close it would end all locks that this process holds on it.
                with suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                self._upgrade()
        except Timeout:
            raise WorkFailed(
                f"{self.path} is being opened by another Counterpoint: try again in a moment."
            ) from None
        except OSError as error:
            raise self._unwritten(error.strerror or str(error)) from None

    def _is_damaged(self) -> bool:
        try:
            raw = sqlite3.connect(self.path, timeout=LOCK_S)
            try:
                return [row[0] for row in raw.execute("PRAGMA quick_check(1)")] != ["ok"]
            finally:
                raw.close()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode in _DAMAGED:
                return True
            raise

    def _set_aside(self) -> None:
        """Under another name, with what SQLite keeps beside it: nothing of it is changed."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        aside = self.path.with_name(f"{FILE}.damaged-{stamp}")
        for ending in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{ending}").rename(f"{aside}{ending}")
        self._announce(
            f"the logbook {self.path} is damaged: it was set aside as {aside.name}, and a new one begins. Mend it by "
            f"`sqlite3 {aside.name} .recover`."
        )

    def _upgrade(self) -> None:
        connection = self._connect()
        try:
            applied = [one.name for one in self._migrations.applied(connection)]
            known = {one.name for one in self._migrations.pending(connection)} | set(applied)
            newer = [name for name in applied if name not in self._names]
            if newer:
                raise CounterpointError(
                    f"{self.path} is of a newer Counterpoint ({newer[0]}): use that one, or another --data-dir."
                )
            if known == set(applied):
                return
            if applied:
                self._back_up(connection, applied[-1])
            self._migrations.apply(connection)
        finally:
            connection.close()

    @property
    def _names(self) -> set[str]:
        return {migration.name for migration in self._migrations._migrations}

    def _back_up(self, connection: Connection, version: str) -> None:
        """A whole copy as it was, before it is changed; one of the same version that is there stays."""
        target = self.path.with_name(f"{FILE}.before-upgrade-of-{version}")
        if target.exists():
            return
        half = target.with_name(f".{target.name}.half")
        half.unlink(missing_ok=True)
        connection.execute("VACUUM INTO ?", [str(half)])
        shutil.copymode(self.path, half)
        half.rename(target)

    # --- what went wrong, told

    def _told(self, error: sqlite3.Error) -> WorkFailed:
        code: Any = getattr(error, "sqlite_errorcode", None)
        base = code & 0xFF if isinstance(code, int) else None
        if base in _DAMAGED:
            self._is_sound = False
            return WorkFailed(
                f"The logbook {self.path} is damaged: start Counterpoint again, it is set aside then and a new one begins."
            )
        if base in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return WorkFailed(f"{self.path} is held by another program: close that, and try again.")
        why = {
            sqlite3.SQLITE_FULL: "No space left on device",
            sqlite3.SQLITE_READONLY: "it is read-only",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
            sqlite3.SQLITE_IOERR: "input/output error",
        }.get(base or 0, str(error))
        return self._unwritten(why)

    def _unwritten(self, why: str) -> WorkFailed:
        return WorkFailed(
            f"The logbook {self.path} cannot be written ({why}): make room, or choose another --data-dir."
        )
