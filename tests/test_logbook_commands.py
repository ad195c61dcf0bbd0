"""The logbook's commands, as a person runs them."""

from __future__ import annotations

from pathlib import Path

from logbook.conversations import Asked, End
from logbook.logbook import Logbook
from tests.command_line import Place, objects, refused
from tests.logbook.test_ratings import rating


def test_a_logbook_goes_to_another_machine_whole(place: Place, tmp_path: Path) -> None:
    here = Logbook(place.data)
    begun = here.conversations.begin("chat", [Asked(0, "why?", "base", "Bare", "bare")])
    here.conversations.end(begun.turns[0], End("done", "so"))
    out, there = tmp_path / "logbook.jsonl", tmp_path / "there"
    ran = place.run("export-logbook", "--out", out, "--json", *place.options)
    assert ran.returncode == 0, ran.stderr
    assert objects(ran.stdout) == [{"out": str(out), "rows": 3}]
    assert out.stat().st_mode & 0o077 == 0, "it is what a person said"
    refused(place.run("export-logbook", "--out", out, *place.options), "exists already")
    ran = place.run("import-logbook", out, "--data-dir", there)
    assert (ran.returncode, ran.stdout) == (0, "added: 1 conversation, 1 turn, 1 pane\n")
    assert Logbook(there).conversations.panes(begun.conversation) == here.conversations.panes(
        begun.conversation
    )
    assert (
        place.run("import-logbook", out, "--data-dir", there).stdout == "added: nothing that was not there\n"
    )


def test_what_is_no_logbook_is_one_line(place: Place, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")
    (tmp_path / "y.jsonl").write_bytes(b"\xff\xfe")
    refused(place.run("import-logbook", tmp_path / "x.jsonl", *place.options), "x.jsonl: This is no export")
    refused(place.run("import-logbook", tmp_path / "y.jsonl", *place.options), "is not UTF-8 text")
    refused(place.run("import-logbook", tmp_path / "none.jsonl", *place.options), "cannot be read")
    refused(place.run("export-logbook", "--out", tmp_path / "no" / "x", *place.options), "name a file", 1)


def test_what_was_rated_becomes_rows_that_training_takes(place: Place, tmp_path: Path) -> None:
    ratings = Logbook(tmp_path).ratings
    options = ["--base", str(place.base), "--quantization", "none", "--data-dir", str(tmp_path)]
    out = tmp_path / "rows.jsonl"
    refused(place.run("export-ratings", "--to", "messages", "--out", out, *options), "rate answers as good")
    ratings.add(rating("I am Ann."))
    ratings.add(rating("Dunno.", "bad"))
    ratings.add(rating("Cut", cut_off=True))
    ran = place.run("export-ratings", "--to", "messages", "--out", out, *options)
    assert (ran.returncode, ran.stdout) == (0, f"{out}: 1 rows\n")
    assert "1 good answers were cut off" in ran.stderr
    [row] = objects(out.read_text())
    assert [message["content"] for message in row["messages"]] == ["Who are you?\n", "I am Ann."]
    checked = place.run("check-data", out, "--json", *options)
    assert '"rows": 1' in checked.stdout
    ran = place.run("export-ratings", "--to", "preferences", "--out", out, "--replace", "--json", *options)
    assert objects(ran.stdout) == [{"out": str(out), "rows": 1, "left_out": 0}]
    assert objects(out.read_text())[0]["rejected"] == [{"role": "assistant", "content": "Dunno."}]
    refused(
        place.run("export-ratings", "--to", "csv", "--out", tmp_path / "x", *options),
        "choose messages or preferences",
    )
