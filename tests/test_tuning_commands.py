"""The commands of fine-tuning as a person or a program meets them, each in a process of its own, on the tiny base."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import tuning_commands
from tests import tiny
from tests.command_line import Place, objects, refused


def test_check_adapter_says_what_a_good_one_is(place: Place) -> None:
    good = place.data / "adapters" / "one"
    ran = place.run("check-adapter", good, "--json", *place.options)
    assert (ran.returncode, ran.stderr) == (0, "")
    [told] = objects(ran.stdout)
    assert told["usable"] is True
    assert told["problems"] == []
    assert told["sha256"] == hashlib.sha256((good / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert (told["rank"], told["base_proven"]) == (4, False)
    text = place.run("check-adapter", good, *place.options)
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.startswith("one: usable, base not proven\n")


def test_check_adapter_says_what_is_wrong_with_a_bad_one_and_exits_1(place: Place) -> None:
    ran = place.run("check-adapter", place.data / "adapters" / "broken", "--json", *place.options)
    assert ran.returncode == 1
    [told] = objects(ran.stdout)
    assert told["usable"] is False
    assert len(told["problems"]) == 1
    assert ran.stderr.count("\n") == 1
    assert "DoRA" in ran.stderr


def test_check_adapter_accepts_another_bases_adapter_only_when_told_to(
    place: Place, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    foreign = Path(shutil.copytree(tiny_adapters["one"], tmp_path / "foreign"))
    tiny.edit_config(foreign, base_model_name_or_path="meta-llama/Llama-3.1-8B-Instruct")
    named = Path(shutil.copytree(place.base, tmp_path / "base"))
    config = json.loads((named / "config.json").read_text())
    (named / "config.json").write_text(
        json.dumps(config | {"_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"})
    )
    options = ["check-adapter", foreign, "--data-dir", place.data, "--base", named]
    ran = place.run(*options)
    assert ran.returncode == 1
    assert "override this check" in ran.stderr
    assert place.run(*options, "--override-base").returncode == 0


def test_check_data_says_what_good_data_is(place: Place, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(
        "question;answer;label\nWhy?;So.;a\nHow?;Thus.;b\nWho?;Us.;a\nWhen?;Now.;b\n"
    )
    ran = place.run("check-data", tmp_path / "d.csv", "--json", *place.options)
    assert (ran.returncode, ran.stderr) == (0, "")
    [told] = objects(ran.stdout)
    assert (told["usable"], told["problems"], told["notes"], told["heldout"]) == (True, [], [], None)
    data = told["data"]
    assert (data["container"], data["format"], data["rows"]) == ("CSV", "prompt/completion", 4)
    assert data["labels"] == {"label": {"a": 2, "b": 2}}
    assert 0 < data["tokens"]["trained"] < data["tokens"]["total"]
    assert told["max_length"] == 512
    assert [row["line"] for row in told["first_rows"]] == [2, 3, 4, 5]
    for row in told["first_rows"]:
        assert [span["trained"] for span in row["spans"]] == [False, True]
    text = place.run("check-data", tmp_path / "d.csv", *place.options)
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.startswith("d.csv: 4 sound rows (CSV: 4 prompt/completion)\n")


def test_check_data_says_all_that_is_wrong_with_bad_data_and_exits_1(place: Place, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(
        '{"prompt": "Why?", "completion": "So."}\n{\n{"prompt": "", "completion": "x"}\n'
    )
    (tmp_path / "held.jsonl").write_text('{"prompt": "why?", "completion": "No."}\n')
    options = ["check-data", tmp_path / "d.jsonl", "--heldout", tmp_path / "held.jsonl", *place.options]
    ran = place.run(*options, "--json")
    assert ran.returncode == 1
    [told] = objects(ran.stdout)
    assert told["usable"] is False
    kinds = [(one["kind"], one["file"], [at["line"] for at in one["lines"]]) for one in told["problems"]]
    assert kinds == [
        ("bad-json", "d.jsonl", [2]),
        ("missing-turn", "d.jsonl", [3]),
        ("heldout-overlap", "held.jsonl", [1]),
    ]
    assert ran.stderr.count("\n") == 1
    assert "3 problems" in ran.stderr
    assert "write one JSON object a line" in ran.stderr
    text = place.run(*options)
    assert text.returncode == 1
    assert "held.jsonl:1: asked in d.jsonl:1 too" in text.stdout
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe{\0}\0")
    binary = place.run("check-data", tmp_path / "d.jsonl", *place.options)
    assert binary.returncode == 1
    assert "it is UTF-16 text: save it as UTF-8" in binary.stdout


def test_split_data_writes_two_sides_by_a_seed_and_no_question_is_on_both(
    place: Place, tmp_path: Path
) -> None:
    words = ("fox", "dog", "bridge", "order", "river", "cloud", "stone", "lamp", "desk", "clock")
    asked = [f"what is a {word}?" for word in words for _ in range(2)]
    (tmp_path / "d.csv").write_text("prompt,completion\n" + "".join(f"{each},a thing\n" for each in asked))

    def sides(folder: str, *options: str) -> list[set[str]]:
        out = tmp_path / folder
        ran = place.run("split-data", tmp_path / "d.csv", "--out", out, "--json", *options, *place.options)
        assert (ran.returncode, ran.stderr) == (0, "")
        [told] = objects(ran.stdout)
        made = []
        for name in ("train", "heldout"):
            rows = objects((out / f"{name}.jsonl").read_text())
            assert told[name] == {"path": str(out / f"{name}.jsonl"), "rows": len(rows)}
            made.append({row["messages"][0]["content"] for row in rows})
        assert sum(told[name]["rows"] for name in ("train", "heldout")) == 20
        return made

    one, same, other = sides("a"), sides("b"), sides("c", "--seed", "7", "--share", "0.5")
    assert one == same != other
    for train, heldout in (one, other):
        assert heldout
        assert not train & heldout
    again = place.run("split-data", tmp_path / "d.csv", "--out", tmp_path / "a", *place.options)
    refused(again, "exists already")
    (tmp_path / "d.csv").write_text("prompt,completion\n,a thing\n")
    bad = place.run("split-data", tmp_path / "d.csv", "--out", tmp_path / "d", *place.options)
    refused(bad, "check-data")
    assert not (tmp_path / "d").exists()


def small_recipe(place: Place, folder: Path) -> Path:
    """A recipe that takes seconds, beside its data."""

    def rows(*questions: str) -> str:
        turns = [
            [{"role": "user", "content": question}, {"role": "assistant", "content": "jumps over"}]
            for question in questions
        ]
        return "".join(json.dumps({"messages": turn}) + "\n" for turn in turns)

    (folder / "train.jsonl").write_text(rows("a fox?", "a dog?"))
    (folder / "heldout.jsonl").write_text(rows("the fox?", "the dog?", "one fox?"))
    recipe = folder / "recipe.yaml"
    # A folder's own name is the id of a base that says no other.
    recipe.write_text(
        f"name: jumper\ntitle: Jumper\ndescription: For tests.\nexamples: [One, Two, Three]\nbase: {place.base.name}\n"
        "quantization: none\ndtype: float32\nrank: 2\nalpha: 4\nlearning_rate: 5e-2\nwarmup: 0\npasses: 2\n"
        "batch_size: 1\nmax_length: 64\ntrain: train.jsonl\nheldout: heldout.jsonl\n"
        "gate: {persona: teller, gap: 100, forgetting: 100, bias: 100, consistency: 1, memorised: 1, pairs: 3}\n"
    )
    return recipe


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_progress_that_cannot_be_written_ends_nothing_and_other_output_is_one_line(place: Place) -> None:
    with open("/dev/full", "w") as full:
        tuning_commands._print("step 1/2", full)
        full.flush()  # as the engine's start does: nothing may be left of it
    with open("/dev/full", "w") as full:
        listed = place.run("modes", *place.options, stdout=full)
    assert listed.returncode == 1
    assert listed.stderr == (
        "counterpoint: the output cannot be written (No space left on device): make room, or send it elsewhere.\n"
    )


@pytest.mark.slow
def test_train_makes_an_adapter_that_ask_can_use(place: Place, tmp_path: Path) -> None:
    recipe, out = small_recipe(place, tmp_path), tmp_path / "made"
    ran = place.run("train", recipe, "--out", out, "--json", "--publish", *place.options)
    assert ran.returncode == 0, ran.stderr
    told = objects(ran.stdout)
    tested = [one for one in told if one["event"] == "testing"]
    events = [one["event"] for one in told]
    assert events == ["estimate"] + ["progress"] * 4 + ["testing"] * len(tested) + ["done"]
    assert list(dict.fromkeys(one["done"] for one in tested)) == list(range(7))
    assert [one["seconds_left"] for one in tested][-1] == 0
    assert told[0]["memory_bytes"] < told[0]["available_bytes"]
    assert [one["step"] for one in told[1:5]] == [1, 2, 3, 4]
    assert told[-1]["out"] == str(out)
    assert told[-1]["passport"] == json.loads((out / "passport.json").read_text())
    [told_of] = objects(place.run("check-adapter", out, "--json", *place.options).stdout)
    assert (told_of["usable"], told_of["base_proven"]) == (True, True)
    assert told_of["passport"]["gate"]["persona"] == "teller"
    modes = {one["mode"]: one for one in objects(place.run("modes", "--json", *place.options).stdout)}
    assert modes["adapter:jumper"]["usable"]
    refused(place.run("train", recipe, "--out", out, *place.options), "exists already")
    other = place.run("train", recipe, "--out", tmp_path / "other", "--publish", *place.options)
    refused(other, "There is an adapter jumper already")
    assert not (tmp_path / "other").exists()

    long = tmp_path / "long.yaml"
    long.write_text(recipe.read_text().replace("teller", "support-desk").replace("jumper", "longer"))
    talkative = place.run("train", long, "--out", tmp_path / "other", *place.options)
    refused(talkative, "which reads 512 tokens at once, can't read the persona support-desk")

    # By a mark that it cannot meet: made, but offered to nobody.
    strict = tmp_path / "strict.yaml"
    strict.write_text(
        recipe.read_text().replace("jumper", "strict").replace("gap: 100", "gap: 100, loss_ratio: 0.000001")
    )
    missed = place.run("train", strict, "--out", tmp_path / "strict", "--publish", *place.options)
    assert missed.returncode == 1, missed.stderr
    assert (tmp_path / "strict" / "passport.json").exists()
    modes = {one["mode"]: one for one in objects(place.run("modes", "--json", *place.options).stdout)}
    assert "adapter:strict" not in modes

    # The same adapter by such a mark.
    recipe.write_text(recipe.read_text().replace("gap: 100", "gap: 100, loss_ratio: 0.000001"))
    tested = place.run("test-adapter", out, "--recipe", recipe, "--json", *place.options)
    assert tested.returncode == 1, tested.stderr
    gate = objects(tested.stdout)[-1]["gate"]
    assert next(one for one in gate["findings"] if one["part"] == "loss")["verdict"] == "failed"
    assert json.loads((out / "passport.json").read_text())["gate"] == gate
    checked = place.run("check-adapter", out, "--json", *place.options)
    assert checked.returncode == 1
    assert "did not pass the test after its training (loss)" in checked.stderr
