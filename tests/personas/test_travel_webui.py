"""Characters of text-generation-webui."""

from __future__ import annotations

import pytest
import yaml

from personas.render import greeting, render
from personas.schema import parse_persona
from personas.travel.formats import read, write
from tests.personas.cards import CARD, WEBUI, as_json
from tests.personas.texts import FULL


def test_a_character_is_read_with_the_dialogue_of_its_context() -> None:
    arrival = read(WEBUI.encode(), "Chiharu.yaml")
    persona = arrival.persona
    assert (persona.name, persona.title) == ("chiharu", "Chiharu")
    assert greeting(persona) == "*waves* Hey Taro, Chiharu here"
    assert [(each.user, each.assistant) for each in persona.examples] == [
        ("Why computers?", "They are puzzles.")
    ]
    assert render(persona, "q")[0]["content"].endswith(
        "Context:\nChiharu's Persona: Chiharu knows computers. {{x}} stays.\n\nHow Chiharu speaks:\nTaro: Nice!"
    )
    assert [line for line in arrival.left if line.startswith("extra: ")]


def test_older_files_say_bot_user_and_example_dialogue() -> None:
    text = (
        "bot: Eve\nuser: Ada\ncontext: Eve helps <USER>.\nexample_dialogue: |\n  Ada: Help?\n  Eve: Sure.\n"
    )
    persona = read(text.encode(), "eve.yml").persona
    assert "Eve helps Ada." in persona.context
    assert [(each.user, each.assistant) for each in persona.examples] == [("Help?", "Sure.")]


def test_a_character_that_was_not_edited_goes_out_as_it_came_in() -> None:
    persona = read(WEBUI.encode(), "c.yaml").persona
    assert yaml.safe_load(write(persona, "webui").content) == yaml.safe_load(WEBUI)


def test_an_edit_keeps_what_is_unknown() -> None:
    persona = read(WEBUI.encode(), "c.yaml").persona.model_copy(update={"greeting": "New."})
    said = yaml.safe_load(write(persona, "webui").content)
    assert (said["greeting"], said["extra"]) == ("New.", [1, "two"])
    assert read(write(persona, "webui").content, "c.yaml").persona.sha256 == persona.sha256


def test_a_persona_of_ours_comes_home_whole() -> None:
    persona = parse_persona(FULL, "full.yaml")
    parcel = write(persona, "webui")
    assert read(parcel.content, "full.webui.yaml").persona == persona
    said = yaml.safe_load(parcel.content)
    assert said["context"].startswith("You help you.\n\nInstructions:")
    assert "<START>\n{{user}}: What is tea?" in said["context"]


def test_a_file_that_was_changed_is_read_as_it_is_now() -> None:
    changed = write(parse_persona(FULL, "full.yaml"), "webui").content.replace(
        b"You help you.", b"You do not."
    )
    arrival = read(changed, "full.yaml")
    assert "You do not." in render(arrival.persona, "q")[0]["content"]
    assert any("changed since" in line for line in arrival.left)


def test_a_card_that_goes_out_as_a_character_says_what_stays_behind() -> None:
    left = write(read(as_json(CARD), "a.json").persona, "webui").left
    assert any("card file said besides" in line for line in left)


@pytest.mark.parametrize("text", ["name: helper\nrole: R\n", FULL])
def test_our_own_yaml_is_told_from_a_characters(text: str) -> None:
    if text is FULL:
        assert read(text.encode(), "full.yaml").persona == parse_persona(text, "full.yaml")
        assert read(text.encode(), "full.yaml", "other").persona.name == "other"
    else:
        with pytest.raises(Exception, match="title: is missing"):
            read(text.encode(), "helper.yaml")
