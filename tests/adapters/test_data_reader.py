"""Every format becomes the same rows, with the lines that they begin on."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from adapters.training import dataset
from adapters.training.data import reader
from adapters.training.data.reader import Reading

TALK = [
    ("system", "Be kind."),
    ("user", "Why?"),
    ("assistant", "Because."),
    ("user", "Sure?"),
    ("assistant", "Yes."),
]


def read(path: Path, *rows: Any) -> Reading:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return reader.read(path)


def talks(reading: Reading) -> list[list[tuple[str, str]]]:
    return [[(turn.role, turn.content) for turn in row.messages] for row in reading.rows]


def notes(reading: Reading) -> list[tuple[str, int, str]]:
    return [(found.kind, line, text) for found in reading.findings.notes for line, text in found.first]


MESSAGES = [{"role": role, "content": text} for role, text in TALK]
FROM = {"system": "system", "user": "human", "assistant": "gpt"}


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"messages": MESSAGES}, "messages"),
        ({"messages": [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in MESSAGES]},
         "messages"),
        ({"conversations": [{"from": FROM[role], "value": text} for role, text in TALK]}, "ShareGPT"),
        ({"conversations": [{"from": role.title(), "value": text} for role, text in TALK]}, "ShareGPT"),
        ({"conversations": MESSAGES}, "ShareGPT"),
        ({"conversations": [{"from": FROM[role], "value": text} for role, text in TALK[1:]], "system": "Be kind."},
         "ShareGPT"),
        ({"prompt": MESSAGES[:-1], "completion": MESSAGES[-1:]}, "prompt/completion"),
        ({"prompt": MESSAGES[:-1], "completion": " Yes."}, "prompt/completion"),
    ],
)  # fmt: skip
def test_a_talk_of_several_turns_is_read_from_every_format(
    row: dict[str, Any], format: str, tmp_path: Path
) -> None:
    reading = read(tmp_path / "d.jsonl", row)
    assert talks(reading) == [TALK]
    assert (reading.format, reading.formats) == (format, {format: 1})
    assert not list(reading.findings)


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"prompt": "Why?\n", "completion": " Because."}, "Why?"),
        ({"question": "Why?", "answer": "Because."}, "Why?"),
        ({"query": "Why?", "response": "Because."}, "Why?"),
        ({"input": "Why?", "output": "Because."}, "Why?"),
        ({"instruction": "Why?", "output": "Because."}, "Why?"),
        ({"instruction": "Why?", "input": "", "output": "Because."}, "Why?"),
        ({"instruction": "Why?", "input": "A text.", "output": "Because."}, "Why?\n\nA text."),
        ({"instruction": "Why?", "context": "A text.", "response": "Because."}, "Why?\n\nA text."),
        ({"instruction": "", "input": "Why?", "output": "Because."}, "Why?"),
    ],
)
def test_a_question_and_an_answer_are_read_under_their_common_names(
    row: dict[str, Any], question: str, tmp_path: Path
) -> None:
    reading = read(tmp_path / "d.jsonl", row)
    assert talks(reading) == [[("user", question), ("assistant", "Because.")]]
    assert not list(reading.findings)


def test_numbers_are_answers_as_they_are_written(tmp_path: Path) -> None:
    reading = read(tmp_path / "d.jsonl", {"question": "2 + 2?", "answer": 4})
    assert talks(reading)[0][1] == ("assistant", "4")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_with_any_delimiter_and_each_record_with_the_line_that_it_begins_on(
    delimiter: str, mark: str, tmp_path: Path
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows(
        [
            ["Question", " ANSWER", "label", "checks", ""],
            ["a\nb; c, d\te", 'say "x"', "kind", '[{"type": "contains", "value": "x"}]', ""],
            [],
            ["", "", "", "", ""],
            ["why", "so", "", "", ""],
        ]
    )
    (tmp_path / "d.csv").write_bytes((mark + text.getvalue()).encode())
    reading = reader.read(tmp_path / "d.csv")
    assert [entry.line for entry in reading.entries] == [2, 6]
    assert talks(reading)[0] == [("user", "a\nb; c, d\te"), ("assistant", 'say "x"')]
    assert reading.rows[0].labels == {"label": "kind"}
    assert reading.rows[0].checks == ({"type": "contains", "value": "x"},)
    assert reading.rows[1].labels == {}
    assert (reading.container, reading.format) == ("CSV", "prompt/completion")


def test_an_instruction_table_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("instruction,input,output\nAdd.,1 and 2,3\n")
    reading = reader.read(tmp_path / "d.txt")
    assert talks(reading) == [[("user", "Add.\n\n1 and 2"), ("assistant", "3")]]
    assert reading.format == "instruction"


def test_a_json_array_is_read_with_the_line_of_each_item(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]
    (tmp_path / "d.json").write_text(json.dumps(rows, indent=1))
    reading = reader.read(tmp_path / "d.json")
    assert [entry.line for entry in reading.entries] == [2, 6]
    assert reading.container == "a JSON array"


def test_a_file_that_mixes_formats_is_read_and_told_with_lines(tmp_path: Path) -> None:
    plain = {"question": "a", "answer": "b"}
    reading = read(tmp_path / "d.jsonl", {"messages": MESSAGES}, plain, {"messages": MESSAGES}, plain, plain)
    assert len(reading.rows) == 5
    assert reading.formats == {"messages": 2, "prompt/completion": 3}
    assert notes(reading) == [
        ("mixed-formats", 1, "2 rows are messages in a file of prompt/completion: lines 1, 3")
    ]


def test_unknown_fields_are_kept_and_told_once_each(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "b", "source": "x"}
    reading = read(tmp_path / "d.jsonl", {"question": "a", "answer": "b", "group": "g"}, row, row | {"id": 7})
    assert notes(reading) == [
        ("unknown-fields", 2, "'source' in 2 rows"),
        ("unknown-fields", 3, "'id' in 1 row"),
    ]
    assert (reading.rows[2].model_extra or {})["id"] == 7


def test_fields_that_are_empty_or_say_what_is_done_anyway_lose_nothing(tmp_path: Path) -> None:
    turns = [MESSAGES[1], MESSAGES[2] | {"tool_calls": None, "weight": 1, "train": True, "name": "x"}]
    reading = read(tmp_path / "d.jsonl", {"messages": turns, "tools": [], "images": None})
    assert len(reading.rows) == 1


def test_training_reads_any_format_and_tells_every_problem_at_once(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("question;answer\nWhy?;Because.\n")
    assert dataset.read(tmp_path / "d.csv")[0].answer == "Because."
    (tmp_path / "d.csv").write_text("question;answer\n" + "Why?;\n" * 50)
    with pytest.raises(dataset.CounterpointError) as error:
        dataset.read(tmp_path / "d.csv")
    assert str(error.value).startswith("d.csv:2: answer: it is empty; d.csv:3: ")
    assert str(error.value).endswith("; and 20 more")
