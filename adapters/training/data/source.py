"""A file from a stranger, line by line: a regular file of text, and no line or file larger than can be held."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from errors import CounterpointError

MAX_BYTES = 512 * 2**20
"""The largest file that is read."""
MAX_LINE = 2**20
"""The longest line in bytes: about twice the tokens of the longest max_length that a recipe may have."""
MAX_LINES = 5_000_000
"""The most lines that are read, sound or not."""

_UTF8_BOM = b"\xef\xbb\xbf"
_OTHERS = (
    (b"\xff\xfe\x00\x00", "UTF-32 text: save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text: save it as UTF-8"),
    (b"\xff\xfe", "UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text: save it as UTF-8"),
    (b"PK\x03\x04", "an Excel or zip file: save the table as CSV (UTF-8), or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file: save the table as CSV (UTF-8)"),
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"PAR1", "a Parquet file: save it as JSONL"),
    (b"%PDF", "a PDF: copy its rows into JSONL or CSV"),
)
"""How files begin that are often taken for text, and what to do with each."""

_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))
"""Bytes that text hardly holds."""


class NotText(Exception):
    """The file is no UTF-8 text; the message says what it is and names the mend."""


class TooMany(Exception):
    """The file has more lines than are read; what came before has been given."""


class Line(NamedTuple):
    """A line with its end, as it is in the file; `raw` is None where it is longer than MAX_LINE."""

    number: int
    raw: bytes | None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file at its first character, past a byte order mark.

    Raises CounterpointError for what is no file that can be read, NotText for what holds something else.
    """
    # A pipe without a writer would block here for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        file = os.fdopen(os.open(path, flags), "rb")
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    with file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _unreadable(path, "it is no regular file")
        if found.st_size > MAX_BYTES:
            raise CounterpointError(
                f"{path}: it has {found.st_size / 2**20:,.0f} MiB, and at most {MAX_BYTES // 2**20} are read: split it."
            )
        try:
            head = file.read(4096)
            for beginning, what in _OTHERS:
                if head.startswith(beginning):
                    raise NotText(f"it is {what}")
            if len(head) - len(head.translate(None, _CONTROL)) > len(head) // 16:
                raise NotText("it is no text, or UTF-16 without a mark: save it as UTF-8")
            file.seek(len(_UTF8_BOM) if head.startswith(_UTF8_BOM) else 0)
            yield file
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from None


def lines(file: BinaryIO) -> Iterator[Line]:
    """The lines from where `file` stands, numbered from 1. Only "\\n" ends one: JSON strings may hold U+2028."""
    number = 0
    while raw := file.readline(MAX_LINE + 1):
        number += 1
        if number > MAX_LINES:
            raise TooMany(f"only the first {MAX_LINES:,} lines are read")
        if len(raw) <= MAX_LINE:
            yield Line(number, raw)
            continue
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(MAX_LINE)
        yield Line(number, None)


def _unreadable(path: Path, why: str) -> CounterpointError:
    return CounterpointError(
        f"{path}: the dataset cannot be read ({why}): give a file of rows, JSONL or CSV."
    )
