"""The two buttons under an answer: what is kept, and what the pane then looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import CounterpointError
from logbook.database import FILE
from logbook.logbook import Logbook
from ui.rating import rate
from ui.transcript import PaneState, Turn, TurnState, foot_classes


def turn(question: str, answer: str, state: TurnState = "done", mode: str = "persona:ann") -> Turn:
    return Turn(question, mode, "Ann", "prompted", state, answer, receipt={"seed": 7})


def test_a_verdict_is_kept_with_the_panes_own_conversation(tmp_path: Path) -> None:
    earlier = (turn("One?", "1"), turn("Lost?", "", "failed"))
    state = PaneState((*earlier, turn("Two?", "2", mode="adapter:x+persona:ann")), "run", 3)
    rated = rate(Logbook(tmp_path).ratings, state, "good")
    assert rated.last
    assert rated.last.verdict == "good"
    assert "cp-is-good" in foot_classes(rated)
    [kept] = Logbook(tmp_path).ratings.list()
    assert [said.content for said in kept.conversation] == ["One?", "1", "Two?"]
    assert (kept.answer, kept.mode, kept.persona) == ("2", "adapter:x+persona:ann", "ann")
    assert kept.receipt == {"seed": 7}


def test_the_other_verdict_takes_the_place_of_the_first_and_the_same_takes_it_back(tmp_path: Path) -> None:
    ratings = Logbook(tmp_path).ratings
    state = rate(ratings, PaneState((turn("Why?", "So."),), "run"), "good")
    state = rate(ratings, state, "bad")
    assert [kept.verdict for kept in ratings.list()] == ["bad"]
    assert "cp-is-bad" in foot_classes(state)
    state = rate(ratings, state, "bad")
    assert ratings.list() == ()
    assert state.last
    assert state.last.verdict is None


@pytest.mark.parametrize(
    "state",
    [
        PaneState(),
        PaneState((turn("Why?", "Bec", "running"),), "run"),
        PaneState((turn("Why?", "Bec", "stopped"),), "run"),
        PaneState((turn("Why?", "", "failed"),), "run"),
        PaneState((turn("Why?", " "),), "run"),
    ],
)
def test_what_is_no_whole_answer_is_not_rated(tmp_path: Path, state: PaneState) -> None:
    with pytest.raises(CounterpointError, match="no whole answer"):
        rate(Logbook(tmp_path).ratings, state, "good")
    assert Logbook(tmp_path).ratings.list() == ()


def test_a_verdict_that_cannot_be_kept_is_not_shown_as_one(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(CounterpointError, match="cannot be written"):
        rate(Logbook(tmp_path).ratings, PaneState((turn("Why?", "So."),), "run"), "good")
