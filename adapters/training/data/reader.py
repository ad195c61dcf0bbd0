"""From a file to rows: finds out the format, reads what can be read, and says all that is wrong, with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import strict_json
from adapters.training.data.findings import KEPT, Findings
from adapters.training.data.formats import understand
from adapters.training.data.row import Row
from adapters.training.data.source import MAX_LINE, Line, NotText, TooMany, lines, opened
from adapters.training.data.table import records
from strict_json import clean, show

MAX_ROWS = 500_000
"""The most rows of a file that are read."""
MAX_TURNS = 2_000_000
"""The most messages of all rows together: a short one takes more room in memory than in the file."""
MAX_ARRAY, MAX_VALUES = 64 * 2**20, 4_000_000
"""The largest JSON array in bytes, and the most values in it: unlike lines, it is held as a whole."""

_SPACE = re.compile(r"[\s,]*")
_JSONL, _TABLE, _ARRAY = "JSONL", "CSV", "a JSON array"


class Entry(NamedTuple):
    """A row, and the line of the file that it begins on."""

    line: int
    row: Row


@dataclass(slots=True)
class Reading:
    """What was understood of a file. `formats` counts the rows of each, sound or not; `container` is what
    holds them."""

    file: str
    container: str = _JSONL
    entries: list[Entry] = field(default_factory=list)
    formats: dict[str, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=lambda: Findings(""))

    @property
    def rows(self) -> list[Row]:
        return [entry.row for entry in self.entries]

    @property
    def format(self) -> str:
        """The format of most rows; empty where no row is of a known one."""
        return max(self.formats, key=self.formats.__getitem__, default="")


def read(path: Path) -> Reading:
    """Reads the rows of `path`: JSONL, a JSON array, or a table with commas, semicolons or tabs.

    What is wrong with rows is in `findings`. Raises CounterpointError where there is no file that can be read.
    """
    reading = Reading(path.name, findings=Findings(path.name))
    try:
        with opened(path) as file:
            reading.container = _container(path, file.peek(4096)[:4096])  # type: ignore[attr-defined]
            _fill(reading, _until_too_many(_found(reading, file), reading.findings))
    except NotText as error:
        reading.findings.add("unreadable", 0, str(error))
        return reading
    if not reading.entries and not reading.findings.problems:
        reading.findings.add("empty", 0, "there is no row in it")
    return reading


def _container(path: Path, head: bytes) -> str:
    """By the name where it tells, by the first character otherwise."""
    first = head.lstrip()[:1]
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        return _ARRAY if head.split(b"\n", 1)[0].strip() == b"[" else _JSONL
    if first == b"[":
        return _ARRAY
    return _JSONL if first == b"{" else _TABLE


def _found(reading: Reading, file: BinaryIO) -> Iterator[tuple[int, object]]:
    """Every record of the file with its line, before anybody knows whether it is a row."""
    if reading.container == _ARRAY:
        return _array(file.read(MAX_ARRAY + 1), reading.findings)
    if reading.container == _TABLE:
        return records(lines(file), reading.findings)
    return _objects(lines(file), reading.findings)


def _until_too_many(found: Iterator[tuple[int, object]], findings: Findings) -> Iterator[tuple[int, object]]:
    try:
        yield from found
    except TooMany as error:
        findings.add("too-large", 0, str(error))


def _fill(reading: Reading, found: Iterable[tuple[int, object]]) -> None:
    unused: dict[str, tuple[int, int]] = {}
    of_format: dict[str, list[int]] = {}
    turns = 0
    for count, (line, record) in enumerate(found):
        if count == MAX_ROWS or turns > MAX_TURNS:
            most = f"{MAX_ROWS:,} rows" if count == MAX_ROWS else f"{MAX_TURNS:,} messages"
            reading.findings.add("too-large", line, f"only the first {most} are read")
            break
        understood = understand(record)
        for kind, text in understood.problems:
            reading.findings.add(kind, line, text)
        if understood.format:
            reading.formats[understood.format] = reading.formats.get(understood.format, 0) + 1
            where = of_format.setdefault(understood.format, [])
            if len(where) < KEPT:
                where.append(line)
        for name in understood.unused:
            times, first = unused.get(name, (0, line))
            if name in unused or len(unused) < KEPT:
                unused[name] = (times + 1, first)
        if understood.row:
            reading.entries.append(Entry(line, understood.row))
            turns += len(understood.row.messages)
    for format, where in of_format.items():
        if format != reading.format:
            others = reading.formats[format]
            reading.findings.add(
                "mixed-formats",
                where[0],
                f"{others:,} {'row is' if others == 1 else 'rows are'} {format} in a file of {reading.format}: "
                f"{'line' if others == 1 else 'lines'} {_listed(where, others)}",
            )
    for name, (times, first) in unused.items():
        reading.findings.add(
            "unknown-fields", first, f"{show(name)} in {times:,} {'row' if times == 1 else 'rows'}"
        )


def _listed(lines: list[int], count: int) -> str:
    shown = ", ".join(str(line) for line in lines[:10])
    return f"{shown}, …" if count > 10 else shown


def _objects(source: Iterable[Line], findings: Findings) -> Iterator[tuple[int, object]]:
    """One JSON value a line; blank lines are none."""
    for number, raw in source:
        if raw is None:
            findings.add("too-large", number, f"the line has more than {MAX_LINE:,} bytes")
        elif raw.strip():
            try:
                yield number, strict_json.parse(raw.strip())
            except ValueError as error:
                findings.add("bad-json", number, str(error))


def _array(raw: bytes, findings: Findings) -> Iterator[tuple[int, object]]:
    """The items of one JSON array, each with the line that it begins on."""
    if len(raw) > MAX_ARRAY or sum(map(raw.count, (b"[", b"{", b","))) > MAX_VALUES:
        findings.add("too-large", 0, "so large an array is read only as JSONL, one row a line")
        return
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        findings.add("bad-text", raw.count(b"\n", 0, error.start) + 1, "it is not UTF-8")
        return
    decoder = json.JSONDecoder()
    at, line = text.index("[") + 1, 1
    counted = 0
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        line += text.count("\n", counted, at)
        counted = at
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                findings.add("bad-json", line, "something follows the end of the array")
            return
        try:
            _value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            why = f"it is not JSON ({clean(error.msg)}): all after it is unread"
            findings.add("bad-json", error.lineno, why)
            return
        except (RecursionError, ValueError) as error:
            why = (
                "is nested too deeply"
                if isinstance(error, RecursionError)
                else "holds a number that is too large"
            )
            findings.add("bad-json", line, f"it {why}: all after it is unread")
            return
        try:
            yield line, strict_json.parse(text[at:end].encode())
        except ValueError as error:
            findings.add("bad-json", line, str(error))
        at = end
