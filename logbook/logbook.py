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
        self.announce = announce
        self.database = Database(data, announce)
        self.ratings = Ratings(self.database)
        self.conversations = Conversations(self.database)

    def open(self) -> None:
        """Makes it ready as a program starts: what was under way when an earlier one ended is marked as lost, and told of.
        Raises as `Database.writing`."""
        lost = self.conversations.lose()
        if lost:
            answers = "1 answer was" if lost == 1 else f"{lost} answers were"
            self.announce(
                f"{answers} under way when Counterpoint last ended: the logbook has the questions, marked as lost."
            )

    def close(self) -> None:
        self.database.close()
