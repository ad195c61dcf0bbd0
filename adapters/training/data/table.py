"""CSV and its kin: records with the line that each begins on. A header is required, the delimiter is found out."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adapters.training.data.findings import Findings
from adapters.training.data.formats import ANSWERS, QUESTIONS, columns
from adapters.training.data.source import MAX_LINE, Line
from strict_json import clean, show

DELIMITERS = (",", ";", "\t")


class Record(NamedTuple):
    """A record's cells by their columns, empty ones left out, and the line that it begins on."""

    line: int
    cells: dict[str, str]


def records(lines: Iterable[Line], findings: Findings) -> Iterator[Record]:
    """The records of a table, quotation marks and line breaks in cells undone. What is wrong goes to `findings`."""
    before = 0
    texts = _texts(lines, findings)
    for header in texts:
        before += 1
        if header.strip():
            break
    else:
        return
    delimiter, names = _header(header)
    if not _usable(names, before, findings):
        return
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    asked = [name for name in names if name in (*QUESTIONS[:-1], "instruction", *ANSWERS)]
    while True:
        line = before + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            findings.add("bad-table", line, _why(error))
            if "field larger" in str(error):
                return  # where a quotation mark is not closed, all that follows would be taken for text
            continue
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            findings.add("bad-table", line, f"it has {len(cells)} cells, and the header has {len(names)}")
            continue
        full = {name: cell for name, cell in zip(names, cells, strict=True) if name and cell.strip()}
        # An empty question or answer is told as one, not as a column that is not there.
        yield Record(line, dict.fromkeys(asked, "") | full)


def _texts(lines: Iterable[Line], findings: Findings) -> Iterator[str]:
    """The lines as text. One that cannot be read is left blank, so that those after it keep their numbers."""
    for number, raw in lines:
        if raw is None:
            findings.add("too-large", number, f"the line has more than {MAX_LINE:,} bytes")
            yield "\n"
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            findings.add("bad-text", number, f"it is not UTF-8 text (byte {error.start + 1})")
            text = raw.decode("utf-8", errors="replace")
        if "\0" in text:
            findings.add("bad-text", number, "it holds a NUL character")
            text = text.replace("\0", "")
        yield text


def _header(text: str) -> tuple[str, list[str]]:
    """The delimiter, and the columns in small letters: with the right one they are known, or at least many."""
    found = []
    for delimiter in DELIMITERS:
        try:
            cells = next(csv.reader([text], delimiter=delimiter), [])
        except csv.Error:
            cells = []
        names = [cell.strip().casefold() for cell in cells]
        found.append((columns(names), len(names), delimiter, names))
    _known, _many, delimiter, names = max(found, key=lambda each: each[:2])
    return delimiter, names


def _usable(names: list[str], line: int, findings: Findings) -> bool:
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        findings.add("bad-table", line, f"the header has the column {show(twice, 30)} twice")
    elif not columns(names):
        told = ", ".join(show(name, 30) for name in names[:8])
        findings.add(
            "unknown-format",
            line,
            f"the header has {told}, and no question ({', '.join(QUESTIONS)}, instruction) with an answer "
            f"({', '.join(ANSWERS)})",
        )
    else:
        return True
    return False


def _why(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return (
            f"a cell has more than {csv.field_size_limit():,} characters: is a quotation mark not closed? "
            "All after it is unread"
        )
    if "unexpected end" in text:
        return "a quotation mark is not closed before the file ends"
    return clean(text)
