"""Processes that are found again: a number is used again by others, so it is told with the time when its process began."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psutil

_CLOCK_S = 5.0
"""How far apart two readings of when a process began may lie."""


def told(pid: int | None = None) -> dict[str, Any]:
    """What `find` finds a process by; this one's without a number. Raises psutil.Error where there is none."""
    process = psutil.Process(pid)
    return {"pid": process.pid, "created": process.create_time()}


def find(told: Mapping[str, Any]) -> psutil.Process | None:
    """The process if it still goes on; None where it has ended, or what is told is nonsense."""
    try:
        process = psutil.Process(int(told["pid"]))
        same = abs(process.create_time() - float(told["created"])) < _CLOCK_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, TypeError, ValueError, OverflowError):
        return None
