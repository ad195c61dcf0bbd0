from __future__ import annotations

import pytest

from comparison.modes import ModeInfo
from errors import CounterpointError
from ui import setup

MODES = [
    ModeInfo("base", "Bare base model", "bare"),
    ModeInfo("persona:order-clerk", "Order clerk", "prompted", language="en"),
    ModeInfo("persona:professeur", "Professeur", "prompted", language="fr"),
    ModeInfo("persona:gazette-reporter", "Support desk", "prompted", language="en"),
    ModeInfo("adapter:broken", "Broken", "tuned", usable=False, note="no weights"),
    ModeInfo("adapter:orders", "Orders", "tuned"),
    ModeInfo("adapter:gazette", "Support", "tuned"),
    ModeInfo("adapter:orders+persona:order-clerk", "Orders + clerk", "both"),
    ModeInfo("adapter:orders+persona:gazette-reporter", "Orders + desk", "both"),
    ModeInfo("adapter:gazette+persona:gazette-reporter", "Support + desk", "both"),
]


def test_the_first_screen_shows_one_job_in_four_ways() -> None:
    assert setup.default_modes(MODES) == [
        "base",
        "persona:gazette-reporter",
        "adapter:gazette",
        "adapter:gazette+persona:gazette-reporter",
    ]


def test_without_adapters_the_first_screen_still_compares() -> None:
    assert setup.default_modes(MODES[:4], ["en"]) == ["base", "persona:gazette-reporter"]
    assert setup.default_modes(MODES[:1]) == ["base", "base"]


def test_a_further_pane_answers_as_nothing_that_another_does() -> None:
    assert setup.next_mode(MODES, ["base", "persona:order-clerk"], ["en"]) == "persona:gazette-reporter"
    assert setup.next_mode(MODES[:2], ["base", "persona:order-clerk"]) == "base"


def test_counterparts_pair_a_persona_with_the_adapter_of_its_job() -> None:
    assert [three[:2] for three in setup.counterparts(MODES)] == [
        ("persona:gazette-reporter", "adapter:gazette"),
        ("persona:order-clerk", "adapter:orders"),
    ]


def test_a_second_adapter_for_a_job_gives_no_second_example() -> None:
    more = [
        ModeInfo("adapter:gazette-mine", "Mine", "tuned"),
        ModeInfo("adapter:gazette-mine+persona:gazette-reporter", "Mine + desk", "both"),
    ]
    assert setup.counterparts([*more, *MODES]) == setup.counterparts(MODES)


def test_pickers_go_by_family_and_end_with_what_cannot_be_used() -> None:
    labels = [label for label, _ in setup.choices(MODES)]
    assert labels[0] == "Bare"
    assert labels[1] == "Prompted · Order clerk"
    assert labels[-1] == "Tuned · Broken (not usable)"


def test_only_what_a_person_set_is_handed_on() -> None:
    given = {"temperature": "0,7", "top_p": " ", "top_k": None, "max_tokens": "64"}
    assert setup.sampling(given) == {"temperature": 0.7, "max_tokens": 64}


def test_every_field_that_holds_no_number_is_named_at_once() -> None:
    with pytest.raises(CounterpointError, match=r"Temperature.*Seed"):
        setup.sampling({"temperature": "hot", "seed": "1.5"})
    with pytest.raises(CounterpointError, match=r"Top k.*top_p must lie.*min_p must lie"):
        setup.sampling({"top_k": "x", "top_p": "2", "min_p": "9"})


def test_a_persona_is_marked_only_where_the_base_is_known_not_to_speak_its_language() -> None:
    assert setup.language_note("fr", ["en"]) == "Needs a base that speaks French."
    assert setup.language_note("en-GB", ["en"]) is None
    assert setup.language_note("fr", []) is None
