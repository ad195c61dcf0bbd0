from __future__ import annotations

from collections.abc import Callable

import pytest

from errors import CounterpointError
from personas.schema import parse_persona
from tests.ui.scripted import ScriptedBackend
from ui.parts import Parts
from ui.screen import Screen, added, removed
from ui.transcript import PaneState, Turn

ANSWERED = PaneState((Turn("one?", "base", "Bare", "bare", "done", "1"),))
PERSONA = "name: support-desk\ntitle: T\ndescription: D\nrole: You help.\ninstructions: [Help.]\n"


def screen(**more: object) -> Screen:
    values: dict[str, object] = {
        "modes": ["base", "persona:support-desk"],
        "strengths": [1.0, 0.5],
        "states": [ANSWERED, PaneState()],
        "active": (0, 1),
    }
    return Screen(**{**values, **more})  # type: ignore[arg-type]


def parts(make: Callable[[ScriptedBackend], Parts]) -> Parts:
    return make(ScriptedBackend(lambda requests: iter(())))


def test_follow_ups_carry_each_panes_own_history(parts_with: Callable[[ScriptedBackend], Parts]) -> None:
    asked = screen().asked([0, 1], parts(parts_with).catalogue)
    assert [message["content"] for message in asked[0].pane.history] == ["one?", "1"]
    assert asked[1].pane.history == ()
    assert asked[1].family == "prompted"


def test_asking_in_the_last_questions_place_forgets_it(
    parts_with: Callable[[ScriptedBackend], Parts],
) -> None:
    asked = screen().asked([0], parts(parts_with).catalogue, replace_last=True)
    assert asked[0].pane.history == ()
    assert asked[0].state.turns == ()


def test_a_draft_acts_in_place_of_the_stored_persona() -> None:
    draft = parse_persona(PERSONA, "draft")
    assert screen(drafts={"support-desk": draft}).pane(1, PaneState()).persona is draft
    assert screen(drafts={"other": draft}).pane(1, PaneState()).persona is None


def test_strength_counts_only_where_there_is_an_adapter() -> None:
    modes = ["adapter:support", "persona:support-desk"]
    shown = screen(modes=modes, strengths=[0.5, 0.5])
    assert [shown.pane(slot, PaneState()).adapter_scale for slot in (0, 1)] == [0.5, 1.0]


def test_an_answer_of_an_unsaved_draft_says_so(parts_with: Callable[[ScriptedBackend], Parts]) -> None:
    edited = screen(drafts={"support-desk": parse_persona(PERSONA, "draft")})
    (asked,) = edited.asked([1], parts(parts_with).catalogue)
    assert asked.label.endswith(", unsaved draft")


def test_a_strength_of_its_own_is_in_the_answers_label(
    parts_with: Callable[[ScriptedBackend], Parts],
) -> None:
    half = screen(modes=["base", "adapter:support"], strengths=[0.5, 0.5])
    labels = [asked.label for asked in half.asked([0, 1], parts(parts_with).catalogue)]
    assert labels == ["Bare", "adapter:support ×0.5"]


def test_a_seed_is_for_all_panes_and_no_panes_sampling() -> None:
    shown = screen(sampling={"seed": "7", "temperature": "0"})
    assert shown.seed == 7
    assert shown.pane(0, PaneState()).sampling == {"temperature": 0.0}


def test_a_pane_without_a_mode_is_told() -> None:
    with pytest.raises(CounterpointError, match="pick one"):
        screen(modes=[None, None]).pane(0, PaneState())


def test_panes_can_be_two_to_six() -> None:
    assert added((0, 2)) == (0, 1, 2)
    assert removed((0, 1, 2), 1) == (0, 2)
    with pytest.raises(CounterpointError):
        added(range(6))
    with pytest.raises(CounterpointError):
        removed((0, 1), 0)
