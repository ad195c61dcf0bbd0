"""What is asked and answered on the page is in the logbook before the page says that it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from backends.contract import Event, Failed, Request
from logbook.database import FILE
from logbook.logbook import Logbook
from tests.ui.scripted import ScriptedBackend, delta, done
from ui.asked import Asked
from ui.keeping import Keeper
from ui.parts import Parts
from ui.screen import Screen
from ui.streaming import answers
from ui.transcript import PaneState, without_last

PartsWith = Callable[[ScriptedBackend], Parts]


def answering(requests: Sequence[Request]) -> Iterator[Event]:
    for request in requests:
        yield delta(request, "so")
    for request in requests:
        yield done(request)


@pytest.fixture
def parts(parts_with: PartsWith) -> Parts:
    return parts_with(ScriptedBackend(answering))


def ask(
    parts: Parts, question: str, states: Sequence[PaneState], replace_last: bool = False
) -> list[PaneState]:
    """The panes after a question to all of them."""
    slots = range(len(states))
    screen = Screen(["base"] * len(states), [1.0] * len(states), states, list(slots))
    asked = screen.asked(slots, parts.catalogue, replace_last)
    shown = dict(enumerate(states))
    for painted in answers(parts.comparison, question, asked, keeping=Keeper(parts.logbook, "compare")):
        shown |= painted
    return [shown[slot] for slot in slots]


def kept(parts: Parts, state: PaneState, pane: int = 0) -> list[tuple[str, str, str]]:
    assert state.conversation
    path = parts.logbook.conversations.panes(state.conversation)[pane]
    return [(turn.question, turn.answer, turn.state) for turn in path]


def test_every_turn_is_on_disk_before_it_is_painted_as_ended(parts: Parts) -> None:
    keeper = Keeper(parts.logbook, "compare")
    screen = Screen(["base"] * 2, [1.0] * 2, [PaneState()] * 2, [0, 1])
    asked = screen.asked([0, 1], parts.catalogue)
    seen = set()
    for painted in answers(parts.comparison, "why?", asked, keeping=keeper):
        for slot, state in painted.items():
            [(question, answer, how)] = kept(parts, state, slot)
            assert question == "why?"
            assert state.last
            if not state.busy:
                assert (answer, how) == ("so", "done")
            seen.add((slot, state.last.state))
    assert {(0, "running"), (1, "running"), (0, "done"), (1, "done")} <= seen
    [listed] = parts.logbook.conversations.list()
    [turn] = parts.logbook.conversations.panes(listed.id)[1]
    assert turn.receipt["prompt_sha256"] == "cd" * 32
    assert [count for _, count in turn.timing] == [2]


def test_the_next_question_goes_on_and_an_edited_one_is_a_branch(parts: Parts) -> None:
    states = ask(parts, "two?", ask(parts, "one?", [PaneState(), PaneState()]))
    assert kept(parts, states[1], 1) == [("one?", "so", "done"), ("two?", "so", "done")]
    edited = ask(parts, "two, but short?", states, replace_last=True)
    assert [turn[0] for turn in kept(parts, edited[0])] == ["one?", "two, but short?"]
    assert len(parts.logbook.conversations.list()) == 1
    assert parts.logbook.conversations.list()[0].turns == 6
    assert {state.last.notice for state in edited if state.last} == {""}


def test_a_pane_that_is_added_later_is_of_the_same_conversation(parts: Parts) -> None:
    states = ask(parts, "one?", [PaneState()])
    ask(parts, "two?", [*states, PaneState()])
    [listed] = parts.logbook.conversations.list()
    assert [len(path) for path in parts.logbook.conversations.panes(listed.id).values()] == [2, 1]


def test_of_two_pages_the_later_one_is_told_and_both_are_kept(parts: Parts) -> None:
    states = ask(parts, "one?", [PaneState()])
    here = ask(parts, "here?", states)
    there = ask(parts, "there?", states)
    assert here[0].last
    assert here[0].last.notice == ""
    assert there[0].last
    assert "has gone on in another page meanwhile" in there[0].last.notice
    assert there[0].last.answer == "so"
    assert parts.logbook.conversations.list()[0].turns == 3
    again = ask(parts, "and now?", there)
    assert again[0].last
    assert again[0].last.notice == ""


def test_what_a_closed_page_had_of_an_answer_is_kept(parts: Parts) -> None:
    asked = Screen(["base"], [1.0], [PaneState()], [0]).asked([0], parts.catalogue)
    stream = answers(parts.comparison, "why?", asked, keeping=Keeper(parts.logbook, "chat"))
    next(stream)
    state = next(stream)[0]
    assert state.busy
    stream.close()  # type: ignore[attr-defined]
    assert kept(parts, state) == [("why?", "so", "stopped")]


def test_a_page_that_is_closed_before_the_first_word_leaves_nothing_under_way(parts: Parts) -> None:
    asked = Screen(["base"], [1.0], [PaneState()], [0]).asked([0], parts.catalogue)
    stream = answers(parts.comparison, "why?", asked, keeping=Keeper(parts.logbook, "chat"))
    state = next(stream)[0]
    stream.close()  # type: ignore[attr-defined]
    assert kept(parts, state) == [("why?", "", "stopped")]


def test_what_fails_is_kept_with_its_reason(parts_with: PartsWith) -> None:
    def failing(requests: Sequence[Request]) -> Iterator[Event]:
        yield Failed(requests[0].id, "the prompt is too long")

    parts = parts_with(ScriptedBackend(failing))
    states = ask(parts, "why?", [PaneState(), PaneState()])
    assert {
        how for state, pane in zip(states, (0, 1), strict=True) for _, _, how in kept(parts, state, pane)
    } == {"failed"}
    [turn] = parts.logbook.conversations.panes(states[0].conversation or "")[0]
    assert turn.notice == "the prompt is too long"


def test_what_cannot_be_kept_is_answered_all_the_same_and_says_so_in_one_line(
    parts: Parts, tmp_path: Path
) -> None:
    told: list[str] = []
    (tmp_path / "broken" / FILE).mkdir(parents=True)
    parts = replace(parts, logbook=Logbook(tmp_path / "broken", told.append))
    [state] = ask(parts, "why?", [PaneState()])
    assert state.last
    assert (state.last.answer, state.last.state) == ("so", "done")
    assert state.last.notice.startswith("Not kept: The logbook")
    assert "\n" not in state.last.notice
    assert len(told) == 1
    [state] = ask(parts, "and?", [state])
    assert len(state.turns) == 2


def test_a_conversation_goes_on_after_a_turn_that_could_not_be_kept(parts: Parts, tmp_path: Path) -> None:
    [state] = ask(parts, "one?", [PaneState()])
    (tmp_path / "broken" / FILE).mkdir(parents=True)
    [state] = ask(replace(parts, logbook=Logbook(tmp_path / "broken")), "two?", [state])
    [state] = ask(parts, "three?", [state])
    assert [turn[0] for turn in kept(parts, state)] == ["one?", "three?"]
    assert state.last
    assert state.last.notice == ""
    assert without_last(state).conversation == state.conversation


def test_an_asked_pane_names_what_its_page_knows(parts: Parts) -> None:
    states = ask(parts, "one?", [PaneState()])
    [asked] = Screen(["base"], [1.0], states, [0]).asked([0], parts.catalogue, replace_last=True)
    assert isinstance(asked, Asked)
    assert states[0].last
    assert asked.head == states[0].last.id
    assert asked.conversation == states[0].conversation
    assert not asked.state.turns
