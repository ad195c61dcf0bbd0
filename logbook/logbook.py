"""The logbook of a data folder: what was asked, answered and rated, kept as it happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from logbook.conversations import Conversations
from logbook.database import Database
from logbook.ratings import Ratings


class Logbook:
    """Its parts, which share one database."""

    def __init__(self, data: Path, announce: Callable[[str], None] = lambda told: None) -> None:
        """`announce` as in Database."""
        self.database = Database(data, announce)
        self.ratings = Ratings(self.database)
        self.conversations = Conversations(self.database)
