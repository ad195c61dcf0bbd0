"""One report says everything: what training refuses, what is worth knowing, each with its line and its mend."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters.training.data.check import Report, check
from adapters.training.data.describe import as_dict, describe
from adapters.training.data.findings import KEPT, KINDS
from backends import pretrained
from benchmarks import check_data
from comparison.checks.check import wrong_with
from tests.adapters.test_data_duplicates import texts

LONG = texts(40)


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return pretrained.tokenizer(tiny_base)


def write(path: Path, *rows: tuple[str, str] | dict[str, Any]) -> Path:
    told = [row if isinstance(row, dict) else {"question": row[0], "answer": row[1]} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in told))
    return path


def found(report: Report) -> dict[str, list[tuple[str, int, str]]]:
    kinds = report.problems + report.notes
    return {each.kind: [(each.file, line, text) for line, text in each.first] for each in kinds}


def test_a_good_file_has_no_findings(tokenizer: Any, tmp_path: Path) -> None:
    report = check(write(tmp_path / "d.jsonl", ("Why?", "So."), ("How?", "Thus.")), tokenizer, 512)
    assert found(report) == {}
    assert describe(report)[0] == "d.jsonl: 2 sound rows (JSONL: 2 prompt/completion)"
    assert describe(report)[-1] == "Usable."
    assert as_dict(report)["usable"] is True


def test_repeated_rows_and_other_answers_are_told_apart(tokenizer: Any, tmp_path: Path) -> None:
    file = write(
        tmp_path / "d.jsonl",
        (LONG[0], "a"),
        (LONG[1], "b"),
        (LONG[0].upper(), " A"),
        (LONG[0], "c"),
        (LONG[1] + " more", "b"),
        (LONG[0], "c"),
    )
    assert found(check(file, tokenizer, 2000, max_length=2000)) == {
        "exact-duplicates": [("d.jsonl", 3, "the same as line 1"), ("d.jsonl", 6, "the same as line 4")],
        "near-duplicates": [("d.jsonl", 5, found_alike(file, tokenizer))],
        "contradictions": [("d.jsonl", 1, f"line 4: another answer to '{LONG[0][:59]}…'")],
    }


def found_alike(file: Path, tokenizer: Any) -> str:
    [(_, _, text)] = found(check(file, tokenizer, 2000))["near-duplicates"]
    assert text.endswith("% like line 2")
    return text


def test_held_out_questions_that_are_trained_on_are_refused_and_nearly_so_noted(
    tokenizer: Any, tmp_path: Path
) -> None:
    data = write(tmp_path / "train.jsonl", *((text, "a") for text in LONG))
    heldout = write(tmp_path / "held.jsonl", ("new", "a"), (LONG[7].title(), "b"), (LONG[9] + " more", "b"))
    report = check(data, tokenizer, 2000, heldout, max_length=2000)
    told = found(report)
    assert told["heldout-overlap"] == [("held.jsonl", 2, "asked in train.jsonl:8 too")]
    [(file, line, text)] = told["near-heldout-overlap"]
    assert (file, line) == ("held.jsonl", 3)
    assert text.endswith("% like train.jsonl:10")
    assert [each.kind for each in report.problems] == ["heldout-overlap"]
    assert as_dict(report)["heldout"]["rows"] == 3


def test_a_turn_of_a_held_out_talk_that_is_trained_on_is_told(tokenizer: Any, tmp_path: Path) -> None:
    turns = [LONG[0], "It is so.", LONG[1], "That too."]
    talk = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)]
    data = write(tmp_path / "train.jsonl", ("first", "a"), {"messages": talk})
    heldout = write(tmp_path / "held.jsonl", (LONG[0], "b"), ("new", "a"), (LONG[2], "c"))
    told = found(check(data, tokenizer, 2000, heldout, max_length=2000))
    assert told["heldout-overlap"] == [("held.jsonl", 1, "asked in train.jsonl:2 too")]
    assert "near-duplicates" not in found(check(data, tokenizer, 2000, max_length=2000))


def test_checks_that_cannot_be_made_are_a_problem_with_their_lines(tokenizer: Any, tmp_path: Path) -> None:
    good, bad = {"type": "icontains", "value": "a"}, {"type": "icontain", "value": "a"}
    asked = {"question": "why?", "answer": "a"}
    rows = [
        asked | {"checks": [check]} for check in (good, bad, {"type": "contains-all", "value": ["x", 12]}, {})
    ]
    file = write(tmp_path / "d.jsonl", *rows)
    report = check(file, tokenizer, 2000, max_length=2000, wrong_with=wrong_with)
    [(_, line, text), (_, other, missing)] = found(report)["bad-checks"]
    assert (line, other) == (2, 4)
    assert text.startswith("the check 'icontain' is not known: use one of equals")
    assert missing == "type: is missing"
    assert [each.kind for each in report.problems] == ["bad-checks"]


def test_a_system_message_that_all_rows_share_makes_no_duplicates(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"system": "Be kind. " * 20, "question": q, "answer": "x"} for q in ("Why now?", "Who pays?")]
    assert found(check(write(tmp_path / "d.jsonl", *rows), tokenizer, 512)) == {}


def test_labels_out_of_balance_are_told_with_their_counts_and_the_mend(
    tokenizer: Any, tmp_path: Path
) -> None:
    labels = ["common"] * 20 + ["rare"] * 5 + ["middle"] * 10
    rows = [
        {"question": text, "answer": "x", "label": label} for text, label in zip(LONG, labels, strict=False)
    ]
    rows += [{"question": "Why?", "answer": "x"}]
    report = check(write(tmp_path / "d.jsonl", *rows), tokenizer, 2000, max_length=2000)
    [(_, line, text)] = found(report)["imbalance"]
    assert line == 0
    assert text == (
        "label: 'common' 20, 'middle' 10, 'rare' 5: the commonest has 4.0 times the rows of the rarest; "
        "1 row has none"
    )
    assert report.data.labels == {"label": {"common": 20, "middle": 10, "rare": 5}}
    assert "balance them" in "\n".join(describe(report))


@pytest.mark.parametrize(
    "labels", [["a", "b"] * 20, ["a", "b", "b", "b"] * 10, list(map(str, range(40))), ["a"] * 40]
)
def test_labels_that_are_balanced_or_tell_every_row_apart_are_no_finding(
    labels: list[str], tokenizer: Any, tmp_path: Path
) -> None:
    rows = [
        {"question": text, "answer": "x", "group": label} for text, label in zip(LONG, labels, strict=True)
    ]
    assert "imbalance" not in found(check(write(tmp_path / "d.jsonl", *rows), tokenizer, 2000))


def test_rows_over_the_context_are_refused_and_rows_over_a_recipes_own_length_noted(
    tokenizer: Any, tmp_path: Path
) -> None:
    file = write(tmp_path / "d.jsonl", ("Why?", "So."), ("word " * 400, "So."), ("word " * 1500, "So."))
    told = found(check(file, tokenizer, 2000))
    [(_, line, text)] = told["too-long"]
    assert line == 3
    assert text.endswith("tokens, and max_length is 2,000")
    [(_, line, text)] = told["long-rows"]
    assert line == 2
    assert text.startswith("1 row has more than the 512 tokens that a recipe takes unless it says max_length")
    told = found(check(file, tokenizer, 8000, max_length=600))
    assert [line for _, line, _ in told["too-long"]] == [2, 3]
    assert "long-rows" not in told


def test_a_report_stays_short_and_readable_whatever_the_file_holds(tokenizer: Any, tmp_path: Path) -> None:
    name = tmp_path / "d\x1b[31m.jsonl"
    name.write_text("{\n" * 3000 + '{"prompt": "a\\u001b[2J", "completion": "b", "\\u001b": 1}\n' * 3)
    report = check(name, tokenizer, 512)
    text = describe(report)
    assert len(text) < 40
    assert all(line.isprintable() for line in text)
    assert "    and 2,995 more" in text
    told = as_dict(report)
    assert (told["problems"][0]["count"], len(told["problems"][0]["lines"])) == (3000, KEPT)
    assert told["most_lines_of_a_kind"] == KEPT


def test_every_kind_of_finding_names_its_mend() -> None:
    assert all(kind.title and kind.mend for kind in KINDS.values())


@pytest.mark.slow
def test_four_times_the_rows_take_about_four_times_the_time_and_stay_within_the_memory(
    tiny_base: Path, tmp_path: Path
) -> None:
    # The words of the benchmark are many tokens to the tiny base.
    long = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    config = json.loads((long / "config.json").read_text())
    (long / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    options = ("--base", str(long))
    nothing, some, many = (check_data.measure(rows, 0, *options) for rows in (100, 10_000, 40_000))
    none, once, more = (each["cpu_seconds"] for each in (nothing, some, many))  # whatever else runs
    growth = (more - none) / (once - none)
    assert growth < 8, "a square would be 16"
    a_row = (many["peak_bytes"] - some["peak_bytes"]) / 30_000
    assert nothing["peak_bytes"] + 100_000 * a_row < check_data.BYTES
    assert 350 < many["found"]["exact-duplicates"] < 470
    assert 550 < many["found"]["near-duplicates"] < 790
