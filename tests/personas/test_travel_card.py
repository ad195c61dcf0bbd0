"""Character cards: what becomes what, what never reaches a model, and what comes out as it went in."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from errors import CounterpointError
from personas.render import greeting, render
from personas.schema import MAX_ORIGIN_CHARS, Persona, parse_persona
from personas.travel.formats import read, write
from personas.travel.parcel import Arrival
from tests.personas.cards import CARD, as_json, in_base64, picture, with_data
from tests.personas.texts import FULL


def arrive(**fields: Any) -> Arrival:
    return read(with_data(**fields), "ann.card.json")


def told(persona: Persona) -> str:
    """All that a model or a person in a conversation is ever told."""
    return greeting(persona) + "\n".join(message["content"] for message in render(persona, "q"))


def data_of(persona: Persona) -> dict[str, Any]:
    card = json.loads(write(persona, "card").content)
    assert (card["spec"], card["spec_version"]) == ("chara_card_v2", "2.0")
    return card["data"]


def test_every_field_of_a_card_has_its_place() -> None:
    persona = arrive().persona
    assert (persona.name, persona.title, persona.tags) == ("ann-lee", "Ann Lee", ("sci-fi",))
    assert persona.description == "SECRET for people"
    assert persona.role == "You are Ann Lee."
    assert persona.instructions == ("Answer as Ann Lee, in Ann Lee's own words. Be brief.",)
    assert persona.constraints == ("No lies, Ann Lee.",)
    assert greeting(persona) == "Hello the user, Ann Lee here."
    assert [(each.user, each.assistant) for each in persona.examples] == [
        ("Tea?", "Yes.\nOf course."),
        ("Why?", "Because."),
    ]
    assert render(persona, "q")[0]["content"].endswith(
        "Context:\nFIRST\n\nAnn Lee sells tea to the user. {{ x }} and {{random::a}} and {{7*7}} stay.\n\n"
        "Personality: Kind.\n\nScenario: A shop. Ann Lee waits for the user.\n\nALWAYS Ann Lee\n\n"
        "How Ann Lee speaks:\nAnn Lee: Nobody asked.\nthe user: And then?\n\nConstraints:\n- No lies, Ann Lee."
    )


def test_what_is_for_people_or_waits_for_a_keyword_is_never_told_to_a_model() -> None:
    persona = arrive().persona
    for edited in (persona, persona.model_copy(update={"title": "Annie"})):
        again = read(write(edited, "card").content, "again.json").persona
        for each in (edited, again):
            for secret in ("SECRET", "DEPTH", "ANOTHER GREETING", "WAITING", "SWITCHED OFF", "Bob"):
                assert secret not in told(each)


def test_what_is_not_carried_is_said() -> None:
    left = "\n".join(arrive().left)
    for what in ("alternate_greetings (1)", "character_book (2 not constant)", "unknown/app", "depth_prompt"):
        assert what in left
    for what in ("creator, character_version, unheard_of", "tags (千)"):
        assert what in left
    assert "system_prompt → instructions" in arrive().carried


def test_a_card_that_was_not_edited_goes_out_as_it_came_in() -> None:
    persona = parse_persona(arrive().persona.to_yaml(), "kept.yaml")
    assert json.loads(write(persona, "card").content) == CARD
    renamed = read(as_json(CARD), "a.json", "other").persona
    assert (renamed.name, json.loads(write(renamed, "card").content)) == ("other", CARD)


def test_all_that_is_unknown_survives_an_edit_and_a_second_journey() -> None:
    edited = arrive().persona.model_copy(update={"greeting": "New."})
    for _ in range(2):
        data = data_of(edited)
        for key in (
            "creator_notes",
            "alternate_greetings",
            "tags",
            "creator",
            "character_version",
            "unheard_of",
        ):
            assert data[key] == CARD["data"][key], key
        assert data["extensions"] | CARD["data"]["extensions"] == data["extensions"]
        assert data["character_book"]["extensions"] == {"unknown/book": 1}
        assert data["first_mes"] == "New."
        again = read(write(edited, "card").content, "again.json").persona
        assert again.sha256 == edited.sha256
        assert again.model_copy(update={"origin": edited.origin}) == edited
        edited = again


def test_constant_entries_are_not_told_twice_after_an_edit() -> None:
    data = data_of(arrive().persona.model_copy(update={"title": "Annie"}))
    assert [entry["enabled"] for entry in data["character_book"]["entries"]] == [False, False, True, False]
    assert "ALWAYS Ann Lee" in data["description"]


@pytest.mark.parametrize("to", ["card", "card-png"])
def test_a_persona_of_ours_comes_home_whole(to: str) -> None:
    persona = parse_persona(FULL, "full.yaml")
    parcel = write(persona, to)
    assert "variables (who, topic)" in parcel.left[0]
    assert read(parcel.content, "x" + to.replace("card", ".").replace("-", "")).persona == persona


def test_an_exported_card_says_to_others_what_the_persona_says_here() -> None:
    data = data_of(parse_persona(FULL, "full.yaml"))
    assert data["system_prompt"].startswith("You help you.\n\nInstructions:\n- Answer you.")
    assert data["description"] == "First line.\n\nThird line of tea."
    assert data["post_history_instructions"] == "No lies."
    assert data["mes_example"].startswith("<START>\n{{user}}: What is tea?\n{{char}}: ")
    assert data["first_mes"] == "Hello you."
    assert data["creator_notes"] == "Uses every field."


def test_a_card_that_another_program_changed_is_read_as_it_is_now() -> None:
    card = json.loads(write(parse_persona(FULL, "full.yaml"), "card").content)
    card["data"]["description"] = "Changed elsewhere."
    arrival = read(as_json(card), "x.json")
    assert "Changed elsewhere." in told(arrival.persona)
    assert "First line." not in told(arrival.persona)
    assert any("was changed since" in line for line in arrival.left)


def test_what_hides_in_our_own_extension_is_not_trusted() -> None:
    hidden = write(parse_persona(FULL.replace("No lies.", "Lie."), "full.yaml"), "card").content
    card = json.loads(write(parse_persona(FULL, "full.yaml"), "card").content)
    card["data"]["extensions"] = json.loads(hidden)["data"]["extensions"]
    assert "Lie." not in told(read(as_json(card), "x.json").persona)


def test_braces_that_are_typed_are_data_for_ever() -> None:
    typed = "{{x}} {{{y}}} {{ braces }} {{{{char}}}} {{braces}}z}} {% if %} ${a}"
    persona = arrive(
        description=typed, first_mes=typed, system_prompt=typed, mes_example=f"{{{{user}}}}: {typed}"
    ).persona
    stays = typed.replace("{{char}}", "Ann Lee")
    assert stays in render(persona, "q")[0]["content"]
    assert greeting(persona) == stays
    assert set(persona.variables) == {"braces"}
    with pytest.raises(CounterpointError, match="choose"):
        render(persona, "q", variables={"braces": "anything"})
    assert parse_persona(persona.to_yaml(), "again.yaml") == persona


def test_a_nickname_is_what_a_v3_character_is_called() -> None:
    card = copy.deepcopy(CARD) | {"spec": "chara_card_v3"}
    card["data"] |= {"nickname": "Annie", "group_only_greetings": []}
    arrival = read(as_json(card), "ann.json")
    assert "Annie sells tea" in told(arrival.persona)
    assert arrival.persona.title == "Ann Lee"
    assert any("V2" in line for line in arrival.left)


def test_a_v1_card_is_read() -> None:
    v1 = {key: CARD["data"][key] for key in ("name", "description", "personality", "scenario", "first_mes")}
    persona = read(as_json(v1 | {"avatar": "none", "mes_example": None}), "v1.json").persona
    assert "Ann Lee sells tea" in told(persona)
    data = data_of(persona)
    assert data["extensions"] == {}
    assert (data["avatar"], data["mes_example"], data["description"]) == ("none", "", v1["description"])


def test_a_picture_carries_its_card_before_or_after_the_pixels() -> None:
    carried = picture(Comment="hi", Chara=in_base64(as_json(CARD)))
    first = carried.index(b"tEXtChara") - 4
    end = first + 12 + int.from_bytes(carried[first : first + 4])
    moved = carried[:first] + carried[end:-12] + carried[first:end] + carried[-12:]
    for raw in (carried, moved):
        arrival = read(raw, "ann.png")
        assert arrival.persona == arrive().persona
        assert any("picture" in line for line in arrival.left)


def test_the_v3_chunk_is_read_only_where_it_is_alone() -> None:
    v3 = in_base64(as_json({**CARD, "spec": "chara_card_v3", "data": {**CARD["data"], "name": "Third"}}))
    assert read(picture(ccv3=v3), "a.png").persona.title == "Third"
    both = read(picture(ccv3=v3, chara=in_base64(as_json(CARD))), "a.png")
    assert both.persona.title == "Ann Lee"
    assert any(line.startswith("ccv3") for line in both.left)


def test_a_greeting_that_is_too_long_is_told_and_kept() -> None:
    arrival = arrive(first_mes="x" * 9_000)
    assert arrival.persona.greeting == ""
    assert any(line.startswith("first_mes (9,000 characters)") for line in arrival.left)
    assert data_of(arrival.persona.model_copy(update={"title": "Annie"}))["first_mes"] == "x" * 9_000


def lore(entries: int) -> dict[str, Any]:
    """A book of entries that wait for a keyword, 1,400 characters each, after a constant one."""
    always = CARD["data"]["character_book"]["entries"][1]
    return {"entries": [always, *({"keys": ["k"], "content": "x" * 1_400, "enabled": True},) * entries]}


def test_of_a_card_too_large_to_be_kept_all_but_its_book_is_and_the_import_says_so() -> None:
    arrival = arrive(character_book=lore(100))
    left = "\n".join(arrival.left)
    assert "unknown/app, depth_prompt): other programs' own; kept for an export to a card" in left
    assert (
        "creator, character_version, unheard_of: no place in a persona; kept for an export to a card" in left
    )
    assert "character_book (100 not constant): nothing here looks for keywords\n" in left
    assert re.search(
        r"^character_book \(1\d\d,\d{3} characters\): too large to keep for an export$", left, re.M
    )
    persona = parse_persona(arrival.persona.to_yaml(), "kept.yaml")
    for each in (persona, persona.model_copy(update={"title": "Annie"})):
        data = data_of(each)
        assert data["extensions"] | CARD["data"]["extensions"] == data["extensions"]
        for key in ("creator", "creator_notes", "alternate_greetings", "unheard_of", "tags"):
            assert data[key] == CARD["data"][key], key
        assert "FIRST" in data["description"], "the book's constant entry"
        assert "character_book" not in data
        again = read(as_json({**CARD, "data": data}), "again.json").persona
        assert data_of(again)["extensions"] == data["extensions"]


def test_a_card_that_only_its_waiting_book_made_too_large_goes_out_as_it_came_in_without_it() -> None:
    book = {"entries": lore(100)["entries"][1:]}
    kept = {key: value for key, value in CARD["data"].items() if key != "character_book"}
    assert data_of(arrive(character_book=book).persona) == kept


def test_extensions_are_kept_even_where_a_cards_texts_are_too_large_to_be_kept_beside_the_persona() -> None:
    arrival = arrive(description="千" * 60_000)
    data = data_of(arrival.persona)
    assert data["extensions"] | CARD["data"]["extensions"] == data["extensions"]
    assert "千" * 60_000 in data["description"]
    assert "too large to keep" in arrival.left[-1]


def test_extensions_too_large_to_be_kept_are_never_said_to_be() -> None:
    arrival = arrive(extensions={"big": "x" * MAX_ORIGIN_CHARS})
    assert "extensions (big): other programs' own" in arrival.left
    assert arrival.left[-1].startswith("extensions (131,")
    assert arrival.left[-1].endswith("too large to keep for an export")
    assert data_of(arrival.persona)["unheard_of"] == CARD["data"]["unheard_of"]


def test_a_name_without_latin_letters_takes_the_files_name() -> None:
    assert read(with_data(name="千早"), "chihaya.card.png.json").persona.name == "chihaya"
    assert read(with_data(name="千早"), "早.json").persona.name == "imported"


def test_where_a_persona_came_from_does_not_change_what_it_is() -> None:
    persona = arrive().persona
    assert persona.origin is not None
    assert persona.sha256 == persona.model_copy(update={"origin": None}).sha256


@pytest.mark.parametrize(
    "data", ["[]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', "x" * 140_000]
)
def test_an_origin_is_a_json_object_of_bounded_size(data: str) -> None:
    text = FULL + f"origin:\n  format: card\n  data: {json.dumps(data)}\n"
    with pytest.raises(CounterpointError, match=r"origin\.data"):
        parse_persona(text, "p.yaml")
