from __future__ import annotations

from collections.abc import Callable

import pytest

from errors import CounterpointError
from personas.schema import parse_persona
from tests.ui.scripted import ScriptedBackend
from ui import persona_form, persona_list
from ui.parts import Parts


def test_every_shipped_persona_survives_the_form(parts_with: Callable[[ScriptedBackend], Parts]) -> None:
    store = parts_with(ScriptedBackend(lambda requests: iter(()))).personas
    for entry in store.list():
        text = store.text(entry.name)
        persona = parse_persona(text, entry.name)
        for name, value in zip(persona_form.FIELDS, persona_form.to_fields(persona), strict=True):
            text = persona_form.with_field(text, name, value)
        assert persona_form.checked(text, entry.name).sha256 == persona.sha256, entry.name


TEXT = "name: helper\ntitle: T\ndescription: D\nrole: You help.\ninstructions: [Help.]\n"


def test_one_field_is_changed_and_the_rest_stays() -> None:
    text = persona_form.with_field(TEXT, "instructions", "One.\n\nTwo.")
    persona = persona_form.checked(text, "helper")
    assert persona.instructions == ("One.", "Two.")
    assert persona.role == "You help."


def test_editing_the_title_leaves_every_other_value_as_it_was_typed() -> None:
    written = TEXT + (
        "greeting: yes\ntags: [on, '007']\nsampling: {temperature: 1e-1, max_tokens: 64}\nvariables:\n"
        "  closing: {description: When, default: 22:30}\n"
        "  gift: {description: Gift, default: no, choices: [no, yes]}\n"
        "  limit: {description: Most, default: '1e5'}\n"
        "  day: {description: Day, default: 2026-01-01}\n"
        "examples: [{user: '{{closing}} {{gift}} {{limit}} {{day}}', assistant: OK}]\n"
    )
    before = persona_form.checked(written, "helper")
    after = persona_form.checked(persona_form.with_field(written, "title", "New"), "helper")
    assert [each.default for each in after.variables.values()] == ["22:30", "no", "1e5", "2026-01-01"]
    assert after == before.model_copy(update={"title": "New"})


def test_the_form_does_not_write_over_anchors_and_aliases() -> None:
    with pytest.raises(CounterpointError, match="YAML"):
        persona_form.with_field(TEXT + "tags: [&a one, *a]\n", "title", "New")


def test_a_field_that_says_nothing_new_leaves_the_file_as_it_was_written() -> None:
    written = "# mine\n" + TEXT
    assert persona_form.with_field(written, "instructions", "Help.") == written
    assert persona_form.with_field(written, "greeting", "") == written


def test_a_half_filled_example_is_told_not_dropped() -> None:
    text = persona_form.with_field(TEXT, "examples", [["Hi", ""], ["", ""]])
    with pytest.raises(CounterpointError, match="assistant"):
        persona_form.checked(text, "helper")


def test_broken_yaml_is_told_before_the_form_writes_over_it() -> None:
    with pytest.raises(CounterpointError, match="YAML"):
        persona_form.with_field("a: [", "title", "New")


def test_a_rename_is_told_to_be_a_duplicate() -> None:
    with pytest.raises(CounterpointError, match="Duplicate"):
        persona_form.checked(TEXT, "other")


def test_the_list_is_searched_by_word_and_tag(parts_with: Callable[[ScriptedBackend], Parts]) -> None:
    entries = parts_with(ScriptedBackend(lambda requests: iter(()))).personas.list()
    assert [name for _, name in persona_list.listed(entries, {}, {}, words="coffee customers")] == [
        "support-desk"
    ]
    assert "support-desk" in [name for _, name in persona_list.listed(entries, {}, {}, tag="support")]
    assert persona_list.listed(entries, {}, {}, words="nothing like it") == []


def test_a_copy_gets_a_name_that_nobody_has() -> None:
    assert persona_form.free_name("a", ["a", "a-2"]) == "a-3"


def test_personas_of_one_title_are_told_apart_by_their_names(
    parts_with: Callable[[ScriptedBackend], Parts],
) -> None:
    personas = parts_with(ScriptedBackend(lambda requests: iter(()))).personas
    personas.duplicate("meeting-notes", "our-notes")
    shown = {name: title for title, name in persona_list.listed(personas.list(), {}, {})}
    assert shown["our-notes"] == "Meeting notes · our-notes · yours"
    assert shown["meeting-notes"] == "Meeting notes · meeting-notes"
    assert shown["plain-law"] == "Law in plain language"


def test_the_form_keeps_the_steps_that_it_does_not_show() -> None:
    steps = (
        "steps:\n  - {name: outline, prompt: 'Outline {{question}}', max_tokens: 20}\n"
        "  - {name: polish, prompt: 'Polish {{outline}}'}\n"
    )
    before = persona_form.checked(TEXT + steps, "helper")
    for name, value in (("title", "New"), ("role", "You polish."), ("examples", [["Hi", "Ho"]])):
        after = persona_form.checked(persona_form.with_field(TEXT + steps, name, value), "helper")
        assert after.steps == before.steps != ()
