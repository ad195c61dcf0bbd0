"""The whole logbook out as lines of JSON, and back in: nothing is lost on the way, and nothing that is there changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database as Connection

from errors import CounterpointError
from logbook.database import Database
from strict_json import parse, show

FIRST = {"format": "counterpoint-logbook", "version": 1}
"""What the first line says."""


@dataclass(frozen=True, slots=True)
class _Table:
    """By which columns a row is known to be there already, which say something of one file or process alone, and in what
    order rows come, so that what a row names is there before it."""

    known_by: tuple[str, ...]
    own: tuple[str, ...] = ()
    order: str = "rowid"


_TABLES = {
    "conversation": _Table(("id",), own=("number",)),
    "tag": _Table(("conversation_id", "name"), order="conversation_id, name"),
    "turn": _Table(("id",), own=("number", "owner")),
    "pane": _Table(("conversation_id", "number"), order="conversation_id, number"),
    "rating": _Table(("answer_id", "at", "verdict"), own=("number",)),
}


def export(database: Database) -> Iterator[str]:
    """A line for each row, after one that says what it is; all of one moment. Raises as `Database.reading`."""
    with database.reading() as db:
        yield _line(FIRST)
        for name, table in _TABLES.items():
            for row in db.query(f"SELECT * FROM {name} ORDER BY {table.order}"):
                carried = {column: value for column, value in row.items() if column not in table.own}
                yield _line({"table": name, "row": carried})


def take_in(database: Database, lines: Iterable[str]) -> dict[str, int]:
    """Adds the rows that are not there yet, all or none of them, and says how many of each table they were.

    Raises CounterpointError with the number of a line that is none of these, and as `Database.writing`.
    """
    added = dict.fromkeys(_TABLES, 0)
    numbered = enumerate(lines, start=1)
    if _read(*next(numbered, (1, "{}"))) != FIRST:
        raise CounterpointError("This is no export of a logbook: its first line does not say so.")
    with database.writing() as db:
        columns = {name: set(db.table(name).columns_dict) - set(table.own) for name, table in _TABLES.items()}
        for number, line in numbered:
            told = _read(number, line)
            name, row = told.get("table"), told.get("row")
            if name not in _TABLES or not isinstance(row, dict) or not set(row) <= columns[name]:
                raise CounterpointError(f"Line {number} is no row of a logbook: {show(line, 80)}.")
            if _is_there(db, name, row):
                continue
            try:
                db.table(name).insert(row)
            except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
                raise CounterpointError(
                    f"Line {number} cannot be taken in ({error}): {show(line, 80)}."
                ) from None
            added[name] += 1
    return added


def _is_there(db: Connection, name: str, row: dict[str, Any]) -> bool:
    known_by = _TABLES[name].known_by
    where = " AND ".join(f"{column} IS ?" for column in known_by)
    try:
        found = db.execute(f"SELECT 1 FROM {name} WHERE {where}", [row.get(column) for column in known_by])
    except (sqlite3.InterfaceError, sqlite3.ProgrammingError):  # a list where a text has to be
        return False
    return found.fetchone() is not None


def _line(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n"


def _read(number: int, line: str) -> dict[str, Any]:
    try:
        told = parse(line.encode())
    except ValueError as error:
        raise CounterpointError(f"Line {number} cannot be read ({error}).") from None
    if not isinstance(told, dict):
        raise CounterpointError(f"Line {number} is no row of a logbook: {show(line, 80)}.")
    return told
