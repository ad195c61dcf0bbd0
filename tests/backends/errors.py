"""What tests of the base's files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import CounterpointError


def one_line(raised: pytest.ExceptionInfo[CounterpointError]) -> str:
    assert "\n" not in str(raised.value)
    return str(raised.value)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
