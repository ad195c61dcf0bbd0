"""Ollama's Modelfiles: the syntax as Ollama reads it, the persona in them, and the weights that stay behind."""

from __future__ import annotations

import pytest

from errors import CounterpointError
from personas.render import render
from personas.schema import Example, parse_persona
from personas.travel.formats import read, write
from personas.travel.modelfile_syntax import Instruction, instructions, line
from tests.personas.cards import CARD, MODELFILE, as_json
from tests.personas.texts import FULL, MINIMAL


def values(text: str) -> list[tuple[str, str, str]]:
    return [tuple(each[1:]) for each in instructions(text, "Modelfile")[0]]


def test_a_modelfile_becomes_a_persona() -> None:
    arrival = read(MODELFILE.encode(), "mario.Modelfile")
    persona = arrival.persona
    assert (persona.name, persona.title) == ("mario", "Mario")
    assert render(persona, "q")[0]["content"].startswith(
        'You are Mario.\nSay "hi" to {{ .Name }} and {{x}}.\n\nInstructions:\n- Keep to your role'
    )
    assert persona.examples == (Example(user="Who are you?", assistant="It's-a me!\nMario."),)
    sampling = persona.sampling
    assert (sampling.temperature, sampling.top_k, sampling.repetition_penalty) == (0.7, 40, 1.1)
    assert sampling.stop == ("### User: ", "<|im_end|>")
    left = "\n".join(arrival.left)
    for what in (
        "TEMPLATE",
        "LICENSE",
        "FROM 'llama3.2'",
        "ADAPTER './mario-lora.gguf'",
        "PARAMETER num_ctx",
        "seed '42'",
    ):
        assert what in left


def test_a_modelfile_exported_and_imported_again_is_equal() -> None:
    persona = read(MODELFILE.encode(), "mario.Modelfile").persona
    parcel = write(persona, "modelfile")
    assert read(parcel.content, "mario.Modelfile").persona == persona
    kept = [each for each in values(MODELFILE) if each[0] not in ("template", "license")]
    assert sorted(values(parcel.content.decode())) == sorted(kept)


def test_an_edited_one_keeps_its_base_and_other_parameters() -> None:
    persona = read(MODELFILE.encode(), "mario.Modelfile").persona.model_copy(
        update={"role": "You are Luigi, {{braces}}x}}."}
    )
    said = values(write(persona, "modelfile").content.decode())
    assert said[:2] == [("from", "", "llama3.2"), ("adapter", "", "./mario-lora.gguf")]
    assert ("parameter", "num_ctx", "4096") in said
    assert sum(each[:2] == ("parameter", "temperature") for each in said) == 1
    again = read(write(persona, "modelfile").content, "Modelfile").persona
    assert again.sha256 == persona.sha256
    assert ("parameter", "num_ctx", "4096") in values(write(again, "modelfile").content.decode())


@pytest.mark.parametrize("text", [MINIMAL, FULL])
def test_a_persona_of_ours_comes_home_whole(text: str) -> None:
    persona = parse_persona(text, "p.yaml")
    content = write(persona, "modelfile", "some/base", "/adapters/one").content
    for raw in (content, content.replace(b"\n", b"\r\n")):
        assert read(raw, "Modelfile").persona == persona
    said = values(content.decode())
    assert said[:2] == [("from", "", "some/base"), ("adapter", "", "/adapters/one")]
    assert said[2] == ("system", "", render(persona, "q")[0]["content"])


def test_without_a_base_the_embedded_ones_name_stands_there() -> None:
    assert b"\nFROM smollm2:135m\nSYSTEM" in write(parse_persona(MINIMAL, "p.yaml"), "modelfile").content


def test_creator_notes_are_in_no_instruction() -> None:
    said = values(write(read(as_json(CARD), "a.json").persona, "modelfile").content.decode())
    assert not any("SECRET" in value for *_, value in said)


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        ('"""\nTwo\nlines.\n"""', "\nTwo\nlines.\n"),
        ('"""one"""   ', "one"),
        ('"quoted "', "quoted "),
        ('"two\nlines"', "two\nlines"),
        ('""', ""),
        ('""""""', ""),
        ('"""says "x" and ""y"" """', 'says "x" and ""y"" '),
        ("  plain text  ", "plain text"),
        ('"""a\n\n# no comment\nFROM no\n"""', "a\n\n# no comment\nFROM no\n"),
    ],
)
def test_texts_are_quoted_as_ollama_reads_them(value: str, read_as: str) -> None:
    assert values(f"# c\n  # c\nFROM foo\nSYSTEM {value}\nPARAMETER top_k 1\n") == [
        ("from", "", "foo"),
        ("system", "", read_as),
        ("parameter", "top_k", "1"),
    ]


@pytest.mark.parametrize(
    "value", ["plain", "\n", " x ", 'a"', '"', '"a', "a\n\n", '""', 'x "y" z', "", "#", "\t"]
)
def test_what_is_written_is_read_back(value: str) -> None:
    for each in (Instruction(1, "parameter", "stop", value), Instruction(1, "system", "", value)):
        assert values(line(each, "p")) == [tuple(each[1:])]


def test_a_text_that_no_quotes_can_hold_is_refused_and_not_changed() -> None:
    persona = parse_persona(MINIMAL, "p.yaml").model_copy(update={"context": 'a """\nb'})
    with pytest.raises(CounterpointError, match="cannot become a Modelfile"):
        write(persona, "modelfile")


def test_all_problems_of_a_modelfile_are_told_with_their_lines() -> None:
    text = 'FROM a\nBAD x\nMESSAGE villain hi\nPARAMETER top_k\nSYSTEM """open\n'
    with pytest.raises(CounterpointError) as caught:
        read(text.encode(), "Modelfile")
    for told in (
        "Modelfile:2: 'BAD x'",
        "Modelfile:3: MESSAGE 'villain'",
        "Modelfile:4: ",
        "Modelfile:5: the text",
    ):
        assert told in str(caught.value)


def test_wrong_numbers_are_told_together_and_those_out_of_range_are_left() -> None:
    text = "FROM a\nSYSTEM s\nPARAMETER temperature hot\nPARAMETER top_k 1.5\nPARAMETER top_p nan\n"
    with pytest.raises(CounterpointError) as caught:
        read(text.encode(), "Modelfile")
    for told in ("Modelfile:3: ", "Modelfile:4: ", "Modelfile:5: "):
        assert told in str(caught.value)
    arrival = read(b"FROM a\nSYSTEM s\nPARAMETER num_predict -1\nPARAMETER temperature 9\n", "Modelfile")
    assert arrival.persona.sampling.max_tokens is None
    assert sum(line.startswith("PARAMETER") for line in arrival.left) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SYSTEM hi", "no FROM line"),
        ("FROM a\n", "neither SYSTEM nor MESSAGE"),
        ("FROM a\nSYSTEM \n", "neither SYSTEM nor MESSAGE"),
        ("", "no FROM line"),
        ("\0", "no instruction"),
    ],
)
def test_what_is_no_persona_is_one_line(text: str, told: str) -> None:
    with pytest.raises(CounterpointError, match=told):
        read(text.encode(), "Modelfile")


def test_a_long_system_text_goes_to_the_context_whole() -> None:
    persona = read(f"FROM a\nSYSTEM {'x' * 9_000}\n".encode(), "long.Modelfile").persona
    assert persona.context == "x" * 9_000
