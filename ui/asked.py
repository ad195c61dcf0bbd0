"""A question on its way into one pane."""

from __future__ import annotations

from dataclasses import dataclass

from comparison.live import Pane
from ui.transcript import PaneState


@dataclass(frozen=True, slots=True)
class Asked:
    """One pane of a question: where it is on the screen, what it remembers, how it is to answer.

    `conversation` is the one that the page goes on with, and `head` the last turn that it knows of in this pane, as the
    logbook calls them.
    """

    slot: int
    state: PaneState
    pane: Pane
    label: str
    family: str
    conversation: str | None = None
    head: str | None = None
