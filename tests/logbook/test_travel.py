"""The logbook goes out and comes home whole, and a stranger's file changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from errors import CounterpointError
from logbook.conversations import Asked, End
from logbook.logbook import Logbook
from logbook.travel import FIRST, export, take_in
from tests.logbook.test_ratings import rating

BEGIN = json.dumps(FIRST)
GOOD = json.dumps(
    {
        "table": "conversation",
        "row": {"id": "c", "kind": "chat", "title": "x", "created_at": "x", "changed_at": "x"},
    }
)


@pytest.fixture
def full(tmp_path: Path) -> Logbook:
    """Two conversations, one with branches, a tag, and an answer under way; two verdicts on one answer."""
    logbook = Logbook(tmp_path / "full")
    kept = logbook.conversations
    one = kept.begin("compare", [Asked(pane, "why — “so”?\n", "base", "Bare", "bare") for pane in (0, 1)])
    for turn in one.turns:
        kept.end(turn, End("done", "because \u2028", receipt={"seed": 7}, timing=((0.1, 3),)))
    edited = Asked(0, "why, in short?", "base", "Bare", "bare", head=one.turns[0])
    kept.end(kept.begin("compare", [edited], one.conversation).turns[0], End("stopped", "be"))
    kept.tag(one.conversation, ["demo"])
    kept.begin("chat", [Asked(0, "still there?", "base", "Bare", "bare")], person="ann")
    logbook.ratings.add(rating(one.turns[0]))
    logbook.ratings.add(rating(one.turns[0], "bad"))
    return logbook


def out(logbook: Logbook) -> list[str]:
    return list(export(logbook.database))


def test_what_comes_home_is_what_went_out(full: Logbook, tmp_path: Path) -> None:
    lines = out(full)
    home = Logbook(tmp_path / "home")
    assert take_in(home.database, lines) == {"conversation": 2, "tag": 1, "turn": 4, "pane": 3, "rating": 2}
    assert out(home) == lines
    [one] = home.conversations.list("why")
    assert home.conversations.panes(one.id) == full.conversations.panes(one.id)
    assert home.ratings.list() == full.ratings.list()
    assert home.conversations.lose() == 1, "what was under way there is under way nowhere here"


def test_what_is_there_already_stays_as_it_is(full: Logbook) -> None:
    lines = out(full)
    [one] = full.conversations.list()
    full.conversations.rename(one.id, "Renamed since")
    assert sum(take_in(full.database, lines).values()) == 0
    assert full.conversations.list()[0].title == "Renamed since"


def test_two_logbooks_become_one(full: Logbook, tmp_path: Path) -> None:
    other = Logbook(tmp_path / "other")
    begun = other.conversations.begin("chat", [Asked(0, "theirs?", "base", "Bare", "bare")])
    take_in(other.database, out(full))
    assert {each.title for each in other.conversations.list()} == {"theirs?", "why — “so”?"}
    assert other.conversations.panes(begun.conversation)[0][0].state == "running", "its own goes on"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "no export of a logbook"),
        (['{"format": "other"}'], "no export of a logbook"),
        (["<html>"], "Line 1 cannot be read"),
        ([BEGIN, GOOD, "[1]"], "Line 3 is no row"),
        ([BEGIN, GOOD, '{"table": "sqlite_master", "row": {}}'], "Line 3 is no row"),
        ([BEGIN, GOOD, '{"table": "tag", "row": {"name": "x", "evil": 1}}'], "Line 3 is no row"),
        ([BEGIN, GOOD, '{"table": "tag", "row": {"name": "x", "conversation_id": "gone"}}'], "FOREIGN KEY"),
        (
            [BEGIN, GOOD, '{"table": "tag", "row": {"name": ["x"], "conversation_id": {}}}'],
            "Line 3 cannot be taken in",
        ),
        ([BEGIN, GOOD, '{"table": "rating", "row": {"verdict": "great"}}'], "Line 3 cannot be taken in"),
    ],
)
def test_a_file_that_is_none_changes_nothing(tmp_path: Path, lines: list[str], told: str) -> None:
    home = Logbook(tmp_path)
    with pytest.raises(CounterpointError, match=told) as error:
        take_in(home.database, lines)
    assert "\n" not in str(error.value)
    assert home.conversations.list() == []
