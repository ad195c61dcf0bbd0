"""Verdicts on answers: kept as they are said, and read back whatever became of the file."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from errors import WorkFailed
from logbook.database import FILE
from logbook.logbook import Logbook
from logbook.ratings import EARLIER, Rating, Ratings, Said, Verdict


def rating(answer_id: str, verdict: Verdict | None = "good", **more: Any) -> Rating:
    told: dict[str, Any] = {
        "answer_id": answer_id,
        "at": "2026-01-01T00:00:00+00:00",
        "verdict": verdict,
        "mode": "persona:ann",
        "persona": "ann",
        "conversation": (Said(role="user", content="Who are you?\n"),),
        "answer": answer_id,
        "receipt": {"seed": 7, "sampling": {"temperature": 0.2}},
    }
    return Rating(**told | more)


def test_a_rating_is_read_back_as_it_was_said(tmp_path: Path) -> None:
    said = rating("I am Ann — \u2028 “yes”.\n")
    Logbook(tmp_path / "new" / "folder").ratings.add(said)
    assert Logbook(tmp_path / "new" / "folder").ratings.list() == (said,)


def test_the_last_verdict_on_an_answer_counts_and_one_that_was_taken_back_does_not(tmp_path: Path) -> None:
    ratings = Logbook(tmp_path).ratings
    for answer, verdict in (("a", "good"), ("b", "good"), ("a", "bad"), ("b", None), ("c", "bad")):
        ratings.add(rating(answer, verdict))
    assert [(each.answer, each.verdict) for each in ratings.list()] == [("a", "bad"), ("c", "bad")]


def test_the_verdicts_of_some_answers_are_those_that_count(tmp_path: Path) -> None:
    ratings = Logbook(tmp_path).ratings
    for answer, verdict in (("a", "good"), ("b", "good"), ("a", "bad"), ("b", None), ("c", "bad")):
        ratings.add(rating(answer, verdict))
    assert ratings.verdicts(["a", "b", "d"]) == {"a": "bad"}


def chats(ratings: Ratings, persona: str = "ann") -> list[list[str]]:
    return [[turn["content"] for turn in chat] for chat in ratings.to_train_on(persona)[0]]


def test_good_answers_of_a_persona_are_whole_chats_and_those_of_others_are_not_among_them(
    tmp_path: Path,
) -> None:
    ratings = Logbook(tmp_path).ratings
    ratings.add(rating("mine"))
    ratings.add(rating("tuned too", mode="gpu/adapter:x+persona:ann"))
    ratings.add(rating("wrong", "bad"))
    ratings.add(rating("cut", cut_off=True))
    ratings.add(rating("another's", mode="persona:bob", persona="bob"))
    ratings.add(rating("bare", mode="base", persona=None))
    assert chats(ratings) == [["Who are you?\n", "mine"], ["Who are you?\n", "tuned too"]]


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        ({}, True),
        ({"verdict": "bad"}, False),
        ({"verdict": None}, False),
        ({"cut_off": True}, False),
        ({"persona": "bob", "mode": "persona:bob"}, False),
    ],
)
def test_a_good_answer_after_one_that_is_not_is_no_row(tmp_path: Path, first: Any, kept: bool) -> None:
    ratings = Logbook(tmp_path).ratings
    ratings.add(rating("one", **first))
    spoken = (("user", "Who are you?\n"), ("assistant", "one"), ("user", "And?"))
    before = tuple(Said.model_validate({"role": role, "content": text}) for role, text in spoken)
    ratings.add(rating("two", conversation=before))
    longer, beginning = ["Who are you?\n", "one", "And?", "two"], ["Who are you?\n", "one"]
    # The whole talk teaches its beginning as well: a row of its own would count that twice.
    assert (longer in chats(ratings)) is kept
    assert not (kept and beginning in chats(ratings))


@pytest.mark.parametrize(
    "torn", [b'{"answer_id": "x", "verd', b"\xff\xfe\n", b"[]\n", b'{"answer_id": "x"}\n']
)
def test_what_was_said_before_there_was_a_logbook_is_taken_over_once_and_its_file_stays(
    tmp_path: Path, torn: bytes
) -> None:
    lines = [
        rating(name, verdict).model_dump_json().encode()
        for name, verdict in (("a", "good"), ("b", "good"), ("a", "bad"))
    ]
    content = b"\n".join([*lines[:2], torn, lines[2]]) + b"\n"
    (tmp_path / EARLIER).write_bytes(content)
    ratings = Logbook(tmp_path).ratings
    assert [(each.answer, each.verdict) for each in ratings.list()] == [("a", "bad"), ("b", "good")]
    assert (tmp_path / f"{EARLIER}.taken-over").read_bytes() == content
    # As when the power went before the file had its other name.
    ratings.add(rating("a", "good", at="2026-01-02T00:00:00+00:00"))
    (tmp_path / EARLIER).write_bytes(content)
    assert [(each.answer, each.verdict) for each in ratings.list()] == [("a", "good"), ("b", "good")]


@pytest.mark.parametrize("name", [FILE, EARLIER])
def test_what_cannot_be_written_or_read_is_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for call in (lambda: Logbook(tmp_path).ratings.add(rating("a")), Logbook(tmp_path).ratings.list):
        with pytest.raises(WorkFailed, match=name) as told:
            call()
        assert "\n" not in str(told.value)


def test_a_good_and_a_bad_answer_to_the_same_words_are_a_preference(tmp_path: Path) -> None:
    ratings = Logbook(tmp_path).ratings
    other = (Said(role="user", content="And you?"),)
    for answer, verdict, more in (
        ("long", "bad", {"mode": "base", "persona": None}),
        ("short", "good", {}),
        ("shorter", "good", {}),
        ("cut", "good", {"cut_off": True}),
        ("alone", "good", {"conversation": other}),
        ("taken back", None, {}),
    ):
        ratings.add(rating(answer, verdict, **more))  # type: ignore[arg-type]
    found = ratings.preferences()
    assert [(one.chosen, one.rejected) for one in found] == [("short", "long"), ("shorter", "long")]
    assert found[0].as_dict() == {
        "prompt": [{"role": "user", "content": "Who are you?\n"}],
        "chosen": [{"role": "assistant", "content": "short"}],
        "rejected": [{"role": "assistant", "content": "long"}],
    }
    assert ratings.preferences("ann") == [], "the bad one was the bare base's"
    assert len(ratings.to_train_on()[0]) == 3


def _rate(data: Path, name: str) -> None:
    for number in range(20):
        Logbook(data).ratings.add(rating(f"{name}-{number}", answer="x" * 20_000))


def test_ratings_of_several_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    started = multiprocessing.get_context("spawn")
    processes = [started.Process(target=_rate, args=(tmp_path, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(Logbook(tmp_path).ratings.list()) == 60
