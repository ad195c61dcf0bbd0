"""Files that are no good datasets: each is told in one line, with its place, and none ends in a traceback."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from adapters.training.data import reader, source, table
from adapters.training.data.findings import KEPT
from errors import CounterpointError

USER, REPLY = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
GOOD = json.dumps({"messages": [USER, REPLY]})


def talk(*turns: Any, **more: Any) -> str:
    return json.dumps({"messages": list(turns), **more})


def said(**turn: Any) -> str:
    """A row whose answer is this turn."""
    return talk(USER, turn)


ROLES = "roles must go (system,) user, assistant, …, assistant, not"

# Lines of JSONL that are no rows, and what is told of each.
LINES: list[tuple[str | bytes, str]] = [
    ("{not json", "it is not JSON (Expecting property name enclosed in double quotes, column 2)"),
    ('{"messages": [', "it is not JSON (Expecting value, column 15)"),
    (GOOD + GOOD, "it is not JSON (Extra data, column " + str(len(GOOD) + 1) + ")"),
    (GOOD + ",", "it is not JSON (Extra data, column " + str(len(GOOD) + 1) + ")"),
    ("just words", "it is not JSON (Expecting value, column 1)"),
    ('{"prompt": "a", "prompt": "b", "completion": "c"}', "it has the key 'prompt' twice"),
    ('{"prompt": "a", "completion": NaN}', "it holds NaN, which is not JSON"),
    ('{"prompt": "a", "completion": 1e999}', "it holds 1e999, a number that is too large"),
    ('{"prompt": "a", "completion": ' + "9" * 5000 + "}", "a number that is too large"),
    ('{"prompt": "a", "completion": "\\ud800"}', "it holds half a character (a lone surrogate)"),
    (b'{"prompt": "caf\xe9", "completion": "b"}', "it is not UTF-8 text"),
    (b'{"prompt": "a\x00b", "completion": "b"}', "it is not JSON (Invalid control character at, column 14)"),
    (b'{"prompt": "a\xed\xa0\x80", "completion": "b"}', "it is not UTF-8 text"),
    ('{"prompt": "a\\u0000b", "completion": "c"}', "prompt: it holds a NUL character"),
    ('{"a":' * 70 + "1" + "}" * 70, "it is nested too deeply"),
    ("[" * 100_000, "it is nested too deeply"),
    ('{"prompt": "a", "completion": "b", "more": ' + "[" * 70 + "]" * 70 + "}", "it is nested too deeply"),
    ("x" * (source.MAX_LINE + 1), "the line has more than 1,048,576 bytes"),
    ("[]", "a row must be an object with fields, not a list"),
    ("17", "a row must be an object with fields, not a number"),
    ('"text"', "a row must be an object with fields, not text"),
    ("null", "a row must be an object with fields, not nothing"),
    ("true", "a row must be an object with fields, not true or false"),
    ("{}", "no question and no answer in no fields"),
    ('{"message": []}', "no question and no answer in 'message'"),
    ('{"\\u001b[31m": 1}', "no question and no answer in '\\x1b[31m'"),
    ('{"text": "a whole text"}', "a row of plain text has no question and no answer"),
    ('{"prompt": "a", "chosen": "b", "rejected": "c"}', "a row of preferences (chosen, rejected)"),
    ('{"messages": []}', "messages: there is no message in it"),
    ('{"messages": {}}', "messages: must be a list of messages, not an object"),
    ('{"messages": "Hi"}', "messages: must be a list of messages, not text"),
    ('{"messages": null}', "messages: must be a list of messages, not nothing"),
    ('{"messages": ["Hi", "Hello"]}', "messages.0: must be a message with role and content, not text"),
    (talk(USER), "messages: there is no answer"),
    (talk(REPLY), "messages: there is no question"),
    (talk({"role": "system", "content": "Be kind"}), "messages: there is no question"),
    (talk(REPLY, USER), f"{ROLES} assistant, user"),
    (talk(USER, USER, REPLY), f"{ROLES} user, user, assistant"),
    (talk(USER, REPLY, USER), f"{ROLES} user, assistant, user"),
    (talk(USER, {"role": "system", "content": "x"}, REPLY), f"{ROLES} user, system, assistant"),
    (talk(*[USER] * 300), f"{ROLES} user, user, user, user, user, user, user, user, …"),
    (said(role="tool", content="42"), "messages.1: the role 'tool' is not user, assistant or system"),
    (said(role=3, content="42"), "messages.1: the role 3 is not user, assistant or system"),
    (said(content="42"), "messages.1: it does not say who speaks (role, or from)"),
    (said(role="assistant"), "messages.1: there is no content"),
    (said(role="assistant", content=None), "messages.1: there is no content"),
    (said(role="assistant", content=""), "messages.1: the content is blank"),
    (said(role="assistant", content=" \n"), "messages.1: the content is blank"),
    (said(role="assistant", content=5), "messages.1: the content must be text, not a number"),
    (said(role="assistant", content={"a": 1}), "messages.1: the content must be text, not an object"),
    (said(role="assistant", content=[{"type": "image"}]), "messages.1: the content must be text, not a list"),
    (said(role="assistant", content="x", tool_calls=[{}]), "messages.1.tool_calls: training would leave it out"),
    (said(role="assistant", content="x", weight=0), "messages.1.weight: training would leave it out"),
    (talk(USER, REPLY, tools=[{"name": "f"}]), "tools: training would leave it out"),
    (talk(USER, REPLY, checks="no list"), "checks: it is not JSON"),
    (talk(USER, REPLY, checks=["icontains"]), "checks: must be a list of objects"),
    ('{"conversations": [{"from": "gpt", "value": "a"}]}', "messages: there is no question"),
    ('{"conversations": [{"from": "human", "value": ""}]}', "conversations.0: the content is blank"),
    ('{"conversations": 3}', "conversations: must be a list of messages, not a number"),
    ('{"prompt": "a"}', "there is no answer beside prompt: a field completion, answer"),
    ('{"completion": "a"}', "there is no question beside completion"),
    ('{"prompt": "", "completion": "b"}', "prompt: it is empty"),
    ('{"prompt": "a", "completion": "  "}', "completion: it is empty"),
    ('{"prompt": "a", "completion": null}', "completion: it is empty"),
    ('{"prompt": {"a": 1}, "completion": "b"}', "prompt: must be text, not an object"),
    ('{"prompt": [], "completion": []}', "prompt: there is no message in it"),
    ('{"instruction": "a", "input": "b"}', "there is no answer beside instruction"),
    ('{"instruction": " ", "output": "b"}', "instruction: it is empty"),
    ('{"instruction": "a", "output": "b", "history": [["c", "d"]]}', "history: training would leave it out"),
]  # fmt: skip

HEADER = "question,answer\n"
# Whole files by their names, and the place and text of what is told of each.
FILES: list[tuple[str, str | bytes, str]] = [
    ("d.jsonl", "", "d.jsonl: there is no row in it"),
    ("d.jsonl", "\n \n\n", "d.jsonl: there is no row in it"),
    ("d.jsonl", b"\xef\xbb\xbf", "d.jsonl: there is no row in it"),
    ("d.csv", "", "d.csv: there is no row in it"),
    ("d.csv", HEADER, "d.csv: there is no row in it"),
    ("d.json", "[]", "d.json: there is no row in it"),
    ("d.jsonl", (GOOD + "\n").encode("utf-16"), "d.jsonl: it is UTF-16 text: save it as UTF-8"),
    ("d.jsonl", (GOOD + "\n").encode("utf-32"), "d.jsonl: it is UTF-32 text: save it as UTF-8"),
    ("d.csv", (HEADER + "a,b\n").encode("utf-16-be"), "d.csv: it is no text, or UTF-16 without a mark"),
    ("d.jsonl", bytes(range(256)) * 40 + b"\0" * 4000, "d.jsonl: it is no text"),
    ("d.jsonl", b"\0" * 5000, "d.jsonl: it is no text"),
    ("d.csv", b"PK\x03\x04" + b"x" * 99, "d.csv: it is an Excel or zip file: save the table as CSV (UTF-8)"),
    ("d.jsonl", gzip.compress(GOOD.encode()), "d.jsonl: it is a gzip file: unpack it first"),
    ("d.parquet", b"PAR1....", "d.parquet: it is a Parquet file: save it as JSONL"),
    ("d.csv", "a,b\nc,d\n", "d.csv:1: the header has 'a', 'b', and no question ("),
    ("d.csv", "question,title\nc,d\n", "d.csv:1: the header has 'question', 'title', and no question ("),
    ("d.csv", "question,answer,Answer\na,b,c\n", "d.csv:1: the header has the column 'answer' twice"),
    ("d.csv", HEADER + "a,b,c\n", "d.csv:2: it has 3 cells, and the header has 2"),
    ("d.csv", HEADER + "a\n", "d.csv:2: it has 1 cells, and the header has 2"),
    ("d.csv", HEADER + "a,\n", "d.csv:2: answer: it is empty"),
    ("d.csv", HEADER + '"a\nb",c\n"d\n\n",\n', "d.csv:4: answer: it is empty"),
    ("d.csv", HEADER + '"a"b,c\n', "d.csv:2: ',' expected after '\"'"),
    ("d.csv", HEADER + 'a,"b\n', "d.csv:2: a quotation mark is not closed before the file ends"),
    ("d.csv", HEADER + 'a,"b\n' + "c,d\n" * 40_000, "d.csv:2: a cell has more than 131,072 characters"),
    ("d.csv", HEADER + "a," + "b" * 140_000 + "\n", "d.csv:2: a cell has more than 131,072 characters"),
    ("d.csv", HEADER + "a," + "b" * source.MAX_LINE + "\nc,\n", "d.csv:2: the line has more than"),
    ("d.csv", (HEADER + "caf").encode() + b"\xe9,b\n", "d.csv:2: it is not UTF-8 text (byte 4)"),
    ("d.csv", HEADER + "a\0,b\n", "d.csv:2: it holds a NUL character"),
    ("d.csv", "question\tanswer\na,b\n", "d.csv:2: it has 1 cells, and the header has 2"),
    ("d.json", "[" + GOOD, "d.json:1: it is not JSON (Expecting value): all after it is unread"),
    ("d.json", "[\n" + GOOD + ",\n{]", "d.json:3: it is not JSON (Expecting property name"),
    ("d.json", f"[{GOOD}] {GOOD}", "d.json:1: something follows the end of the array"),
    ("d.json", "[" * 200_000, "d.json:1: it is nested too deeply: all after it is unread"),
    ("d.json", b"[\n\n\xff]", "d.json:3: it is not UTF-8"),
    ("d.json", f"[\n{GOOD},\n\n17\n]", "d.json:4: a row must be an object with fields, not a number"),
    ("d.json", '{"data": [\n' + GOOD + "\n]}", "d.json:1: it is not JSON"),
]  # fmt: skip


def told(path: Path) -> list[str]:
    """All findings that training refuses, as it tells them."""
    found = [(line, text) for kind in reader.read(path).findings.problems for line, text in kind.first]
    return [f"{path.name}:{line}: {text}" if line else f"{path.name}: {text}" for line, text in found]


def is_one_readable_line(text: str) -> bool:
    return text.isprintable() and len(text) < 500


@pytest.mark.parametrize(
    ("line", "expected"), LINES, ids=[f"{number}-{text[:40]}" for number, (_, text) in enumerate(LINES)]
)
def test_a_line_that_is_no_row_is_told_with_its_number_and_the_rows_about_it_are_read(
    line: str | bytes, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "d.jsonl"
    raw = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(GOOD.encode() + b"\n\n" + raw + b"\n" + GOOD.encode())
    problems = told(file)
    assert all(problem.startswith("d.jsonl:3: ") for problem in problems)
    assert any(expected in problem for problem in problems), problems
    assert all(map(is_one_readable_line, problems))
    assert [entry.line for entry in reader.read(file).entries] == [1, 4]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    FILES,
    ids=[f"{number}-{each[2][:40]}" for number, each in enumerate(FILES)],
)
def test_a_file_that_is_no_dataset_is_told_with_the_place(
    name: str, content: str | bytes, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = told(file)
    assert any(problem.startswith(expected) for problem in problems), problems
    assert all(map(is_one_readable_line, problems))


def test_enough_malformed_datasets_are_tried() -> None:
    assert len(LINES) + len(FILES) >= 100


def test_what_is_no_file_is_refused_in_one_line_and_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, why in (
        ("missing.jsonl", "No such file"),
        (".", "Is a directory"),
        ("pipe", "it is no regular file"),
        ("loop", "symbolic links"),
        ("a\0b", "null byte"),
        ("n" * 300, "too long"),
    ):
        with pytest.raises(CounterpointError, match=f"cannot be read .*{why}.*give a file of rows"):
            reader.read(tmp_path / name)
    with pytest.raises(CounterpointError, match="no regular file"):
        reader.read(Path("/dev/zero"))


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "d.jsonl").open("wb") as file:
        file.truncate(source.MAX_BYTES + 1)
    with pytest.raises(CounterpointError, match="it has 512 MiB, and at most 512 are read: split it"):
        reader.read(tmp_path / "d.jsonl")


def test_of_very_many_problems_all_are_counted_and_the_first_are_kept(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("{\n" * (KEPT + 234))
    [found] = reader.read(tmp_path / "d.jsonl").findings.problems
    assert (found.kind, found.count, len(found.first)) == ("bad-json", KEPT + 234, KEPT)
    assert found.first[-1].line == KEPT


def test_rows_beyond_the_most_are_told_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_ROWS", 3)
    (tmp_path / "d.jsonl").write_text((GOOD + "\n") * 5)
    reading = reader.read(tmp_path / "d.jsonl")
    assert len(reading.entries) == 3
    assert told(tmp_path / "d.jsonl") == ["d.jsonl:4: only the first 3 rows are read"]


@pytest.mark.parametrize(
    ("name", "content"), [("d.jsonl", (GOOD + "\n") * 5), ("d.csv", HEADER + "a,b\n" * 5)]
)
def test_lines_beyond_the_most_are_told_and_not_read(
    name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_LINES", 4)
    (tmp_path / name).write_text(content)
    assert told(tmp_path / name) == [f"{name}: only the first 4 lines are read"]
    assert [entry.line for entry in reader.read(tmp_path / name).entries][-1] == 4


def test_what_takes_far_more_room_in_memory_than_in_the_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text(talk(USER, REPLY, more=[[]] * 100_000, note="x"))
    assert reader.read(file).rows[0].model_extra == {"note": "x"}
    file.write_text(talk(USER, REPLY, checks=[{"value": [[]] * 100_000}]))
    assert "checks: too many, or too large" in told(file)[0]
    monkeypatch.setattr(reader, "MAX_TURNS", 3)
    file.write_text((GOOD + "\n") * 5)
    assert told(file) == ["d.jsonl:3: only the first 3 messages are read"]
    monkeypatch.setattr(reader, "MAX_VALUES", 10)
    (tmp_path / "d.json").write_text(f"[{GOOD},{GOOD},{GOOD}]")
    assert told(tmp_path / "d.json") == ["d.json: so large an array is read only as JSONL, one row a line"]


def test_a_json_array_may_be_one_long_line(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text("[" + ",".join([GOOD] * 30_000) + "]")
    assert len(reader.read(tmp_path / "d.json").rows) == 30_000


def test_very_many_unknown_fields_stay_bounded(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(
        talk(USER, REPLY, **{f"field{number}": 1 for number in range(3 * KEPT)})
    )
    [found] = reader.read(tmp_path / "d.jsonl").findings.notes
    assert len(found.first) == KEPT


def test_a_header_is_read_with_every_delimiter() -> None:
    for delimiter in table.DELIMITERS:
        assert table._header(f"Question{delimiter}Answer\n") == (delimiter, ["question", "answer"])


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.json"])
def test_whatever_bytes_are_changed_a_file_is_read_or_told(name: str, tmp_path: Path) -> None:
    table_text = HEADER + "".join(f'"a, ""{number}""\nb",c\n' for number in range(20))
    sound = {"d.jsonl": (GOOD + "\n") * 20, "d.csv": table_text, "d.json": f"[\n{', '.join([GOOD] * 20)}\n]"}
    draw = random.Random(0)
    for _ in range(300):
        raw = bytearray(sound[name].encode())
        for _ in range(draw.randint(1, 8)):
            at = draw.randrange(len(raw))
            raw[at : at + draw.choice((0, 1, 1, 30))] = draw.choice(
                (
                    b"",
                    b'"',
                    b"{",
                    b"]",
                    b"\0",
                    b"\xff",
                    b"\\",
                    b"\r",
                    b",",
                    b"null",
                    b"\xef\xbb\xbf",
                    b"\\ud800",
                )
            )
        (tmp_path / name).write_bytes(raw)
        problems = told(tmp_path / name)
        assert all(map(is_one_readable_line, problems))
        assert problems or reader.read(tmp_path / name).rows
