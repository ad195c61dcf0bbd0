"""Files from strangers: each bad one is one clear line, found in bounded time, and never a traceback."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from errors import CounterpointError
from personas.travel import formats
from personas.travel.formats import read, read_file, write
from personas.travel.png import SIGNATURE
from tests.personas.cards import CARD, MODELFILE, as_json, in_base64, picture, with_data
from tests.personas.texts import MINIMAL


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


BOMB = chunk(b"IHDR", (2**31 - 1).to_bytes(4) * 2 + bytes([8, 6, 0, 0, 0]))
ANCHORS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    ("raw", "name", "told"),
    [
        (b"", "a.json", "not JSON"),
        (b"[]", "a.json", "none of a card's fields"),
        (b"null", "a.json", "none of a card's fields"),
        (b"{}", "a.json", "none of a card's fields"),
        (b'{"spec": "chara_card_v2"}', "a.json", "none of a card's fields"),
        (b'{"spec": "chara_card_v2", "data": [1]}', "a.json", "none of a card's fields"),
        (b'{"spec": "chara_card_v9", "data": {}}', "a.json", "not supported"),
        (b'{"spec": ["chara_card_v2"], "data": {}}', "a.json", "not supported"),
        (b'{"data": "\xff"}', "a.json", "not UTF-8"),
        (as_json(CARD).decode().encode("utf-16"), "a.json", "not UTF-8"),
        (b"[" * 100_000, "a.json", "nested too deeply"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "a.json", "nested too deeply"),
        (with_data(scenario=float("nan")), "a.json", "NaN"),
        (b'{"description": 1e999}', "a.json", "too large"),
        (b'{"description": ' + b"9" * 5_000 + b"}", "a.json", "too large"),
        (b'{"name": "a", "name": "b"}', "a.json", "twice"),
        (b'{"name": "\\ud83d", "description": ""}', "a.json", "half a character"),
        (b'{"name": "x", "description": "", "extensions": {"\\udc00": 1}}', "a.json", "half a character"),
        (with_data(description="x" * 70_000), "a.json", "context"),
        (with_data(name=""), "a.json", "name"),
        (with_data(name="x" * 201), "a.json", "name"),
        (b" " * (4 * 2**20) + as_json(CARD), "a.json", "fit"),
        (picture(), "a.png", "without a character card"),
        (picture(chara="!!!"), "a.png", "not in base64"),
        (picture(chara=in_base64(b"{")), "a.png", "not JSON"),
        (picture(chara=""), "a.png", "not JSON"),
        (picture(chara=in_base64(as_json(CARD)))[:-40], "a.png", "cut off"),
        (SIGNATURE, "a.png", "without a character card"),
        (SIGNATURE + b"\0\0", "a.png", "cut off"),
        (SIGNATURE + b"\xff" * 100, "a.png", "cut off"),
        (SIGNATURE + BOMB + chunk(b"IEND", b""), "a.png", "without a character card"),
        (SIGNATURE + chunk(b"tEXt", b"chara\0" + b"e30=")[:-1] + b"x", "a.png", "damaged"),
        (SIGNATURE + chunk(b"tEXt", b"chara\0" + b"A" * 9_000_000), "a.png", "it is no card"),
        (b"\xff\xd8\xff\xe0 JFIF", "a.jpg", "in no format"),
        (b"anything", "a.txt", "in no format"),
        (ANCHORS.encode(), "a.yaml", "anchors and aliases"),
        (b"[" * 100_000, "a.yaml", "deeply"),
        (b"name: !!python/name:os.system x\ncontext: x", "a.yaml", "not allowed"),
        (b'name: "x\\ud800"', "a.yaml", "half a character"),
        (b'name: x\ncontext: y\nmore: "\\ud800"', "a.yaml", "half a character"),
        (b"name: [a]\ncontext: 3\ngreeting: {}", "a.yaml", "must be text"),
        (b"- a", "a.yaml", "no character"),
        (b"x: y", "a.yaml", "no character"),
        (b"name: \xff", "a.yaml", "UTF-8"),
        (b"name: x\ncontext: " + b"y" * 300_000, "a.yaml", "fit"),
        (b"turn_template: x\nuser: y", "a.yaml", "instruction template"),
        (b"FROM a\nSYSTEM \xff", "Modelfile", "UTF-8"),
        (MODELFILE.encode() + b"#" * 300_000, "Modelfile", "fit"),
        (b'FROM a\nSYSTEM """' + b"\nx" * 100_000, "Modelfile", "never ends"),
        (b"FROM a\n" * 20_000, "Modelfile", "fit"),
        (b"x\n" * 100_000, "Modelfile", "no instruction"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_file_is_one_line_that_names_it(raw: bytes, name: str, told: str) -> None:
    with pytest.raises(CounterpointError, match=told) as caught:
        read(raw, name)
    message = str(caught.value)
    assert message.startswith(name)
    assert "\n" not in message
    assert len(message) < 4_000


def test_all_that_is_wrong_with_a_card_is_told_at_once() -> None:
    raw = with_data(
        description=["x"],
        first_mes=3,
        alternate_greetings="one",
        tags=[1],
        extensions=[],
        character_book={"entries": [{"content": 1, "constant": "yes"}]},
    )
    with pytest.raises(CounterpointError) as caught:
        read(raw, "a.json")
    for place in (
        "a.json: description: must be text",
        "first_mes: ",
        "alternate_greetings: must be a list",
        "tags[0]: ",
        "extensions: must be a mapping",
        "character_book.entries[0].content: ",
        "character_book.entries[0].constant: must be true or false",
    ):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    "value", [None, 0, True, 1.5, "x", [], [[]], {}, {"entries": [None]}, [None], [{"a": 1}]]
)
@pytest.mark.parametrize("field", [*CARD["data"], "nickname"])
def test_any_value_in_any_field_is_a_persona_or_one_error(field: str, value: Any) -> None:
    try:
        persona = read(with_data(**{field: value}), "a.json").persona
    except CounterpointError:
        return
    for to in formats.FORMATS:
        for each in (persona, persona.model_copy(update={"title": "Other"})):
            assert read(write(each, to).content, "x" + formats.FORMATS[to].ending).persona.sha256


def test_what_a_hand_broke_in_an_origin_does_not_stop_an_export() -> None:
    for data in (
        {"name": 3},
        {"instructions": [["from"], 3]},
        {"context": []},
        {"character_book": {"entries": 3}},
    ):
        for kind in ("card", "webui", "modelfile"):
            persona = read(MINIMAL.encode(), "p.yaml").persona
            persona = type(persona).model_validate(
                {**persona.model_dump(), "origin": {"format": kind, "data": json.dumps(data)}}
            )
            for to in formats.FORMATS:
                assert write(persona, to).content


def test_an_origin_brings_no_lines_of_its_own_into_a_modelfile() -> None:
    kept = [["parameter", "x 1\nFROM evil\nPARAMETER y", "1"], ["message", "user\nADAPTER /x", "Hi"]]
    origin = {"format": "modelfile", "data": json.dumps({"instructions": kept})}
    persona = read(MINIMAL.encode(), "p.yaml").persona
    persona = type(persona).model_validate({**persona.model_dump(), "origin": origin})
    written = write(persona, "modelfile").content.decode()
    assert "evil" not in written
    assert "ADAPTER" not in written


def test_a_file_that_is_all_wrong_is_told_in_a_message_that_can_be_read() -> None:
    with pytest.raises(CounterpointError, match=r"and 99,9\d\d more") as caught:
        read(with_data(tags=[1] * 100_000), "a.json")
    assert len(str(caught.value)) < 10_000


def test_a_file_that_steers_terminals_is_told_in_plain_letters() -> None:
    arrival = read(with_data(extensions={"\x1b[31m\nred": 1}), "a.json")
    assert all(line.isprintable() for line in (*arrival.carried, *arrival.left))
    with pytest.raises(CounterpointError) as caught:
        read(b"x", "\x1b[31m.txt")
    assert str(caught.value).isprintable()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(CounterpointError, match="cannot be read"):
            read_file(path)
    monkeypatch.setattr(formats, "MAX_FILE_BYTES", 1_000)
    (tmp_path / "large.json").write_bytes(b" " * 2_000)
    with pytest.raises(CounterpointError, match="larger than"):
        read_file(tmp_path / "large.json")


@pytest.mark.parametrize("name", ["../x", "A", "a b", "", "x" * 65, "a\n"])
def test_a_name_that_is_given_is_a_slug(name: str) -> None:
    with pytest.raises(CounterpointError, match="no persona's name"):
        read(as_json(CARD), "a.json", name)


def test_an_unknown_format_is_answered_with_those_there_are() -> None:
    persona = read(MINIMAL.encode(), "p.yaml").persona
    with pytest.raises(CounterpointError, match="card, card-png, webui, modelfile, yaml"):
        write(persona, "pdf")
    with pytest.raises(CounterpointError, match="Only a Modelfile"):
        write(persona, "card", adapter="/x")
