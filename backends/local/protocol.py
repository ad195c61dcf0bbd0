"""What goes between the engine's process and its other side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.contract import AdapterSource, Request


@dataclass(frozen=True, slots=True)
class Options:
    """What the engine is started with. `base` is a folder or a Hub id, `cache` where fetched bases lie."""

    base: str
    quantization: str
    dtype: str
    cache: Path
    store_bytes: int = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Submit:
    """Requests that belong together, each with the adapter that it names; when they came (`time.monotonic`, which
    all processes of a machine share)."""

    requests: tuple[tuple[Request, AdapterSource | None], ...]
    arrived: float


@dataclass(frozen=True, slots=True)
class Stop:
    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quit:
    """The other side wants no more."""


@dataclass(frozen=True, slots=True)
class Call:
    """A question to the engine itself, answered by a Reply of the same number."""

    number: int
    method: str
    argument: Any


@dataclass(frozen=True, slots=True)
class Reply:
    number: int
    value: Any = None
    error: str | None = None
