"""What holds in every format alike: what was edited since its import, and what a file says besides."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training import dataset
from backends.contract import Message, Role
from errors import CounterpointError
from personas.schema import MAX_ORIGIN_CHARS, Example, Persona, Step, Variable
from personas.travel.formats import read, write
from tests.personas.cards import CARD, MODELFILE, WEBUI, as_json

FILES = {
    "card": (as_json(CARD), "ann.card.json"),
    "webui": (WEBUI.encode(), "chiharu.yaml"),
    "modelfile": (MODELFILE.encode(), "mario.Modelfile"),
}
EDITS = ({"title": "Another"}, {"tags": ("new",)}, {"description": "Another."}, {"questions": ("Why?",)})


ROLES: tuple[Role, ...] = ("user", "assistant", "user", "assistant")
ANSWER = (Message(role="assistant", content="Hello!"),)


def imported(kind: str) -> Persona:
    return read(*FILES[kind]).persona


@pytest.mark.parametrize("kind", FILES)
def test_our_own_packet_goes_along_only_once_a_persona_was_edited(kind: str) -> None:
    persona = imported(kind)
    assert b"counterpoint" not in write(persona, kind).content
    assert write(persona, kind).left == ()
    for edit in EDITS:
        assert b"counterpoint" in write(persona.model_copy(update=edit), kind).content, edit


@pytest.mark.parametrize("kind", FILES)
def test_only_a_file_of_another_format_leaves_behind_what_the_first_one_said_besides(kind: str) -> None:
    edited = imported(kind).model_copy(update={"title": "Another"})
    for to in FILES:
        told = [line for line in write(edited, to).left if "said besides" in line]
        assert told == (
            [] if to == kind else [f"what its {kind} file said besides: only such a file takes it back"]
        )


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_was_changed_after_its_export_says_so_first(kind: str) -> None:
    persona = imported(kind).model_copy(update={"greeting": "Welcome.", "role": "You are OLD."})
    content = write(persona, kind).content
    changed = content.replace(b"Welcome.", b"Farewell.", 1).replace(b"You are OLD.", b"You are NEW.", 1)
    arrival = read(changed, FILES[kind][1])
    assert "it was changed since" in arrival.left[0]
    assert "NEW" in arrival.persona.to_yaml() or "Farewell." in arrival.persona.to_yaml()


@pytest.mark.parametrize(("size", "kept"), [(10, True), (MAX_ORIGIN_CHARS, False)])
def test_a_file_too_large_to_be_kept_is_never_said_to_be(size: int, kept: bool) -> None:
    text = f'FROM llama3.2\nSYSTEM "Be brief."\nPARAMETER other "{"x" * size}"\n'
    left = read(text.encode(), "a.Modelfile").left
    assert any("kept for an export" in note for note in left) is kept
    assert any("too large to keep" in note for note in left) is not kept


def test_examples_become_rows_that_training_reads(tmp_path: Path) -> None:
    persona = imported("card").model_copy(
        update={
            "examples": (
                Example(user="Hi {{who}}", assistant="I am {{who}}."),
                Example(user="Bye", assistant="Bye!"),
            ),
            "variables": {"who": Variable(description="Who answers.", default="Ann")},
        }
    )
    parcel = write(persona, "dataset")
    (tmp_path / "rows.jsonl").write_bytes(parcel.content)
    rows = dataset.read(tmp_path / "rows.jsonl")
    assert [[turn["content"] for turn in row.talk] for row in rows] == [
        ["Hi Ann", "I am Ann."],
        ["Bye", "Bye!"],
    ]
    assert "role" in parcel.left[0]
    assert parcel.carried == ("examples (2)",)


def test_answers_rated_good_become_rows_after_the_examples_each_once(tmp_path: Path) -> None:
    persona = imported("card").model_copy(update={"examples": (Example(user="Bye", assistant="Bye!"),)})
    spoken = ("Hi", "Hello!", "Who?", "Ann.")
    chat = tuple(Message(role=role, content=text) for role, text in zip(ROLES, spoken, strict=True))
    parcel = write(persona, "dataset", rated=(chat, chat[:2], chat))
    (tmp_path / "rows.jsonl").write_bytes(parcel.content)
    rows = dataset.read(tmp_path / "rows.jsonl")
    assert [[turn["content"] for turn in row.talk] for row in rows] == [
        ["Bye", "Bye!"],
        ["Hi", "Hello!", "Who?", "Ann."],
        ["Hi", "Hello!"],
    ]
    assert parcel.carried == ("examples (1)", "answers rated good (3)")
    assert "answers rated good (2): cut off" in write(persona, "dataset", unfit=2).left[-1]


def test_a_persona_with_neither_examples_nor_good_answers_makes_no_rows() -> None:
    persona = imported("card").model_copy(update={"examples": ()})
    with pytest.raises(CounterpointError, match="has no examples"):
        write(persona, "dataset")
    assert write(persona, "dataset", rated=((Message(role="user", content="Hi"), *ANSWER),)).content


@pytest.mark.parametrize("kind", FILES)
def test_steps_are_told_not_to_come_along_but_come_home(kind: str) -> None:
    step = Step(name="one", prompt="Think of {{question}}")
    persona = imported(kind).model_copy(update={"steps": (step,)})
    parcel = write(persona, kind)
    assert any("steps" in line and "no place there" in line for line in parcel.left)
    assert read(parcel.content, FILES[kind][1]).persona.steps == (step,)
    assert not any("steps" in line for line in write(imported(kind), kind).left)


def test_a_dataset_says_that_its_rows_have_no_steps() -> None:
    persona = imported("card").model_copy(
        update={
            "examples": (Example(user="Bye", assistant="Bye!"),),
            "steps": (Step(name="one", prompt="{{question}}"),),
        }
    )
    assert "steps" in write(persona, "dataset").left[0]
