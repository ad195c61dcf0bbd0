"""The commands of measuring as a person or a pipeline meets them, each in a process of its own, on the tiny base."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.command_line import Place, objects, refused

SUITE = """\
name: foxes
title: Foxes
max_tokens: 4
require: [{mode: base, at_least: SHARE}]
tests:
  - {question: 'a fox?', assert: [{type: not-equals, value: ""}]}
  - {question: 'a dog?', assert: [{type: not-equals, value: ""}]}
  - {question: 'a bridge?', assert: [{type: not-equals, value: ""}]}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "foxes.yaml"
    path.write_text(SUITE.replace("SHARE", "1"))
    return path


def test_measure_writes_a_report_and_passes_where_all_marks_are_met(
    place: Place, suite: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = place.run(
        "measure",
        suite,
        "--mode",
        "base",
        "--mode",
        "adapter:one",
        "--alone",
        "1",
        "--out",
        out,
        "--json",
        *place.options,
    )
    assert ran.returncode == 0, ran.stderr
    *progress, last = objects(ran.stdout)
    assert {one["event"] for one in progress} == {"progress"}
    assert (last["event"], last["complete"], last["held"][0]["met"]) == ("measured", True, True)
    for name in ("report.html", "report.json", "figures.csv", "answers.csv"):
        assert (out / name).stat().st_size > 0
        assert str(out / name) in last["files"]
    before = (out / "answers.jsonl").read_bytes()
    (out / "report.html").unlink()
    again = place.run("report", out, *place.options)
    assert again.returncode == 0, again.stderr
    assert "customisation: questions that pass all checks" in again.stdout
    assert (out / "report.html").is_file()
    assert (out / "answers.jsonl").read_bytes() == before


def test_measure_fails_where_a_mark_is_missed_and_says_by_how_much(
    place: Place, suite: Path, tmp_path: Path
) -> None:
    suite.write_text(SUITE.replace("SHARE", "1").replace("not-equals", "equals"))
    ran = place.run(
        "measure", suite, "--mode", "base", "--alone", "0", "--out", tmp_path / "out", *place.options
    )
    assert ran.returncode == 1
    assert "counterpoint: base misses its mark: 0.0%, at least 100.0%" in ran.stderr


def test_a_measurement_that_broke_off_goes_on_with_resume_only_as_it_was_begun(
    place: Place, suite: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--mode", "base", "--alone", "0", "--out", out, *place.options)
    assert place.run("measure", suite, *options).returncode == 0
    refused(place.run("measure", suite, *options), "--resume")
    answers = out / "answers.jsonl"
    lines = answers.read_bytes().splitlines(keepends=True)
    answers.write_bytes(lines[0] + lines[1][:25])
    other = ("--mode", "adapter:one", "--out", out, *place.options)
    refused(place.run("measure", suite, "--resume", *other), "was begun with base")
    otherwise = ("--seed", "5", "--machine-hour-price", "1")
    refused(
        place.run("measure", suite, "--resume", *options, *otherwise),
        "was begun otherwise (--seed, other prices)",
    )
    ran = place.run("measure", suite, "--resume", *options)
    assert ran.returncode == 0, ran.stderr
    again = answers.read_bytes().splitlines(keepends=True)
    assert again[0] == lines[0]
    assert len({json.loads(line)["case"] for line in again}) == len(again) == 3
    suite.write_text(suite.read_text().replace("a fox?", "a cat?"))
    refused(place.run("measure", suite, "--resume", *options), "another foxes")


def test_a_mark_of_a_mode_that_is_not_measured_is_told_before_anything_is_asked(
    place: Place, suite: Path, tmp_path: Path
) -> None:
    suite.write_text(suite.read_text().replace("{mode: base", "{mode: adapter:one"))
    ran = place.run(
        "measure", suite, "--mode", "base", "--alone", "0", "--out", tmp_path / "out", *place.options
    )
    assert ran.returncode == 1
    warned = "it requires a mark of adapter:one, which is not measured: that mark will be missed"
    assert warned in ran.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none.yaml", "--mode", "base"), "there is no such suite"),
        (("SUITE",), "name at least one with --mode"),
        (("SUITE", "--mode", "persona:none", "--mode", "x"), "'x' is not a mode"),
        (("SUITE", "--mode", "base", "--machine-hour-price", "-1"), "machine_hour"),
        (("SUITE", "--mode", "base", "--alone", "-1"), "--alone"),
        (("SUITE", "--mode", "base", "--seed", "-1"), "--seed"),
        (("SUITE", "--mode", "base", "--out", "FILE"), "is there already"),
        (("SUITE", "--variants", "none.yaml"), "the variants cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_told_before_an_engine_is_started(
    place: Place, suite: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    named = {"SUITE": str(suite), "FILE": str(suite)}
    given = [named.get(argument, argument) for argument in arguments]
    out = [] if "--out" in given else ["--out", str(tmp_path / "out")]
    refused(place.run("measure", *given, *out, *place.options), told)
    assert not (tmp_path / "out").exists()


def test_all_that_is_wrong_with_a_suite_is_told_with_its_lines(
    place: Place, suite: Path, tmp_path: Path
) -> None:
    suite.write_text("name: S s\ntitle: S\ntests:\n  - {question: 'a?', assert: [{type: nonsense}]}\n")
    ran = place.run("measure", suite, "--mode", "base", "--out", tmp_path / "out", *place.options)
    refused(ran, "foxes.yaml:1: name")
    assert "foxes.yaml:4" in ran.stderr


def test_variants_are_measured_and_the_best_is_saved_as_a_persona(
    place: Place, suite: Path, tmp_path: Path
) -> None:
    name = next(path.stem for path in (place.data / "personas").glob("*.yaml"))
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"persona: {name}\nexamples: [0]\n")
    out = tmp_path / "out"
    suite.write_text(SUITE.replace("SHARE", "0"))
    ran = place.run(
        "measure", suite, "--variants", grid, "--mode", "base", "--alone", "0", "--out", out, *place.options
    )
    assert ran.returncode == 0, ran.stderr
    variant = f"persona:{name} (0 examples)"
    assert variant in ran.stdout
    save = ("save-variant", out, "--variant", variant, "--name", "better", *place.options)
    assert place.run(*save).stdout.startswith("persona:better\n")
    assert (place.data / "personas" / "better.yaml").is_file()
    refused(place.run(*save), "There is a persona better already")
    refused(
        place.run("save-variant", out, "--variant", "base", "--name", "other", *place.options),
        "is no variant",
    )


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_loses_no_answer_that_was_told(
    place: Place, tmp_path: Path
) -> None:
    suite, out = tmp_path / "many.yaml", tmp_path / "out"
    tests = "".join(
        f"  - {{question: 'fox {n}?', assert: [{{type: not-equals, value: ''}}]}}\n" for n in range(60)
    )
    suite.write_text(f"name: many\ntitle: Many\nmax_tokens: 60\ntests:\n{tests}")
    arguments = ["measure", suite, "--mode", "base", "--alone", "0", "--out", out, "--json", *place.options]
    draw = random.Random(9)
    kept, kills = b"", 0
    for _ in range(5):
        process = place.start(*arguments, *(["--resume"] if kept or out.exists() else []))
        # Killed once it has told of so many more answers, in the middle of whatever it is doing then.
        told = [process.stdout.readline() for _ in range(draw.randint(1, 8))] if process.stdout else []
        process.kill()
        process.wait()
        kills += 1
        there = (out / "answers.jsonl").read_bytes()
        assert there.startswith(kept)
        whole = there[: there.rfind(b"\n") + 1]
        assert whole.count(b"\n") >= kept.count(b"\n") + sum(bool(line.strip()) for line in told)
        kept = whole
    ran = place.run(*arguments, "--resume")
    assert ran.returncode == 0, ran.stderr
    lines = (out / "answers.jsonl").read_bytes()
    assert lines.startswith(kept)
    assert len({json.loads(line)["case"] for line in lines.splitlines()}) == lines.count(b"\n") == 60
    assert kills == 5
