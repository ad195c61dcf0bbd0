"""The command line as a person or a program meets it: each command in a process of its own, on the tiny base."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assembly import Places
from tests import tiny
from tests.comparison.conftest import TELLER

ROOT = Path(__file__).resolve().parents[1]
RECEIPT = [
    "base", "base_sha256", "quantization", "adapter", "adapter_sha256", "adapter_scale", "persona",
    "persona_sha256", "prompt", "prompt_sha256", "sampling", "seed", "prompt_tokens", "completion_tokens",
    "ttft_s", "tokens_per_s", "backend", "dtype",
]  # fmt: skip
QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Place:
    """A data folder with a persona and adapters, and a folder to run in that is not the checkout."""

    base: Path
    data: Path
    cwd: Path

    @property
    def options(self) -> list[str]:
        return ["--base", str(self.base), "--quantization", "none", "--data-dir", str(self.data)]

    def run(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """`python app.py ARGUMENTS`, with these environment variables and no others of ours."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERPOINT_")}
        cache = {"COUNTERPOINT_CACHE_DIR": str(self.cwd / "cache")}
        return subprocess.run(
            [sys.executable, str(ROOT / "app.py"), *map(str, arguments)],
            cwd=self.cwd, env=clean | cache | variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def place(tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("app")
    shutil.copytree(tiny_adapters["one"], folder / "data" / "adapters" / "one")
    broken = Path(shutil.copytree(tiny_adapters["two"], folder / "data" / "adapters" / "broken"))
    tiny.edit_config(broken, use_dora=True)
    (folder / "data" / "personas").mkdir()
    (folder / "data" / "personas" / "teller.yaml").write_text(TELLER)
    (folder / "elsewhere").mkdir()
    return Place(tiny_base, folder / "data", folder / "elsewhere")


def objects(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def refused(ran: subprocess.CompletedProcess[str], told: str, status: int = 2) -> None:
    """Exit status, nothing on stdout, and one line on stderr that holds `told`."""
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert ran.stderr.startswith("counterpoint: ")
    assert told in ran.stderr


def test_ask_json_prints_one_object_a_mode_and_nothing_else(place: Place) -> None:
    modes = ["base", "persona:teller", "adapter:one", "adapter:one+persona:teller"]
    ran = place.run(
        "ask", QUESTION, *(word for mode in modes for word in ("--mode", mode)),
        "--seed", "3", "--temperature", "0", "--max-tokens", "7", "--json", *place.options,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    told = objects(ran.stdout)
    assert [one["mode"] for one in told] == modes
    assert len({one["answer"] for one in told}) == 4
    weights = place.data / "adapters" / "one" / "adapter_model.safetensors"
    for one in told:
        assert list(one) == ["mode", "answer", "finish_reason", "receipt"]
        receipt = one["receipt"]
        assert list(receipt) == RECEIPT
        assert (receipt["seed"], receipt["sampling"]["temperature"]) == (3, 0.0)
        assert receipt["completion_tokens"] <= receipt["sampling"]["max_tokens"] == 7
        assert QUESTION in receipt["prompt"]
    assert told[3]["receipt"]["adapter_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (told[3]["receipt"]["adapter"], told[3]["receipt"]["persona"]) == ("one", "teller")
    assert (told[0]["receipt"]["adapter"], told[0]["receipt"]["persona"]) == (None, None)


def test_ask_takes_its_options_from_the_environment_and_a_pane_that_fails_is_a_line_and_exit_1(
    place: Place,
) -> None:
    lengthy = TELLER.replace("name: teller", "name: lengthy").replace("Be brief.", "word " * 700)
    (place.data / "personas" / "lengthy.yaml").write_text(lengthy)
    ran = place.run(
        "ask", QUESTION, "--mode", "persona:lengthy", "--mode", "base", "--max-tokens", "5",
        COUNTERPOINT_BASE=str(place.base), COUNTERPOINT_QUANTIZATION="none",
        COUNTERPOINT_DTYPE="bfloat16", COUNTERPOINT_DATA_DIR=str(place.data), COUNTERPOINT_BACKEND="local",
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr.startswith("counterpoint: persona:lengthy: The prompt has ")
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert ran.stdout.startswith("── base  (")
    assert " tokens" in ran.stdout.splitlines()[0]
    assert ran.stdout.count("── ") == 1


def test_ask_under_nf4_writes_nothing_of_the_libraries_to_stderr(place: Place) -> None:
    pytest.importorskip("bitsandbytes")
    ran = place.run(
        "ask", QUESTION, "--mode", "base", "--max-tokens", "3", "--json",
        *place.options, "--quantization", "nf4",
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert objects(ran.stdout)[0]["receipt"]["quantization"] == "nf4"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--mode", "prompted"], "write base, persona:NAME, adapter:NAME"),
        (["--mode", "persona:nobody"], "There are: code-explainer"),
        (["--mode", "adapter:nothing"], "choose one of these: gazette"),
        (["--mode", "adapter:broken"], "DoRA"),
        (["--mode", "base", "--temperature", "9"], "temperature must lie between 0 and 5"),
        (["--mode", "base", "--max-tokens", "0"], "max_tokens must lie between 1 and 8192"),
        (["--mode", "base", "--seed", "-1"], "seed must lie between 0 and"),
        (["--mode", "base", "--seed", "one"], "--seed: give a whole number"),
        (["--mode", "base", "--quantization", "int4"], "choose nf4 or int8 or none"),
        (["--mode", "base", "--dtype", "float16"], "choose auto or float32 or bfloat16"),
        (["--mode", "base", "--backend", "cloud"], "give an address such as"),
        (["--mode", "base", "--base", "/no/such/folder"], "there is no such folder"),
        (["--mode", "base", "--base", "nameless"], "Give a model folder or a Hub id"),
        (["--mode", "base"] * 7, "1 to 6 panes, not 7"),
        (["--mode", "base", "--loud"], "unrecognized arguments: --loud"),
        ([], "--mode"),
    ],
    ids=lambda value: "-".join(value[-2:]) or "no-mode" if isinstance(value, list) else "",
)
def test_ask_refuses_bad_input_with_one_line_that_names_the_mend(
    place: Place, arguments: list[str], told: str
) -> None:
    refused(place.run("ask", QUESTION, *place.options, *arguments), told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ask", "--mode", "base"], "QUESTION"),
        (["ask", " ", "--mode", "base"], "type one first"),
        (["modes", "--base", ""], "Give a model folder or a Hub id"),
        (["serve", "--host", "nowhere.invalid"], "there is no such address"),
        (["serve", "--port", "seventy"], "give a number from 1 to 65535"),
        (["--port", "65536"], "give a number from 1 to 65535"),
        (["serve", "--host", "0.0.0.0"], "set COUNTERPOINT_API_KEYS"),
        (["--host", "192.168.1.5"], "set COUNTERPOINT_API_KEYS"),
        (["serve", "--public-host", "lab.example"], "--public-host lab.example is a public address"),
        (["serve", "--public-host", "https://lab.example"], "give the name alone"),
        (["serve", "--share"], "unrecognized arguments: --share"),
        (["answer"], "invalid choice: 'answer'"),
        (["check-adapter", "/no/such/adapter"], "there is no such folder"),
        (["check-adapter", __file__], "give the folder that holds it"),
        (["check-data", "/no/such/data.jsonl"], "give a file of rows, JSONL or CSV"),
        (["check-data", "/dev/zero"], "it is no regular file"),
        (["check-data", __file__, "--heldout", "/no/such/data.csv"], "give a file of rows, JSONL or CSV"),
        (["check-data", __file__, "--max-length", "0"], "give a number of tokens, 1 or more"),
        (["train", "/no/such/recipe.yaml", "--out", "made"], "give the path of a YAML file"),
        (["modes", "--data-dir", "/dev/null/data"], "name another with --data-dir"),
    ],
    ids=lambda value: "-".join(value).replace("/", ".") if isinstance(value, list) else "",
)
def test_bad_input_of_any_command_is_one_line_that_names_the_mend(
    place: Place, arguments: list[str], told: str
) -> None:
    command = [] if arguments[0].startswith("--") else arguments[:1]
    rest = arguments[len(command) :]
    options = [] if arguments == ["answer"] else place.options
    refused(place.run(*command, *options, *rest), told)


def test_an_engine_that_cannot_load_its_base_is_one_line(place: Place, tmp_path: Path) -> None:
    speechless = Path(shutil.copytree(place.base, tmp_path / "speechless"))
    (speechless / "chat_template.jinja").unlink()
    ran = place.run("ask", QUESTION, "--mode", "base", *place.options, "--base", speechless)
    refused(ran, "has no chat template: pick an instruction-tuned model")


def test_a_data_folder_that_we_make_is_its_owners_alone_and_one_that_was_there_stays_as_it_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o775)
    modes = {}
    for name in ("open", "new"):
        options = argparse.Namespace(data_dir=str(tmp_path / name))
        modes[name] = stat.S_IMODE(Places.from_options(options).data.stat().st_mode)
    assert modes == {"open": 0o775, "new": 0o700}


def test_modes_lists_every_mode_and_why_one_cannot_be_used(place: Place) -> None:
    ran = place.run("modes", "--json", *place.options)
    assert (ran.returncode, ran.stderr) == (0, "")
    told = {mode["id"] if "id" in mode else mode["mode"]: mode for mode in objects(ran.stdout)}
    for mode, family in [
        ("base", "bare"),
        ("persona:teller", "prompted"),
        ("adapter:one", "tuned"),
        ("adapter:one+persona:teller", "both"),
    ]:
        assert told[mode]["family"] == family
        assert told[mode]["usable"] is True
    assert told["adapter:broken"]["usable"] is False
    assert "DoRA" in told["adapter:broken"]["note"]
    # The adapters that ship are for the embedded base, and their shapes say so.
    assert told["adapter:support"]["usable"] is False
    text = place.run("modes", *place.options).stdout
    assert "The teller" in text
    assert "adapter:broken" in text
    assert "NOT USABLE" in text


def test_a_switch_in_the_environment_is_on_or_off_and_nothing_else(place: Place) -> None:
    assert place.run("modes", *place.options, COUNTERPOINT_JSON="off").stdout.startswith("base ")
    refused(place.run("modes", *place.options, COUNTERPOINT_JSON="maybe"), "COUNTERPOINT_JSON is 'maybe'")


def test_a_file_of_servers_that_cannot_be_read_is_told_and_the_rest_goes_on(place: Place) -> None:
    (place.data / "servers.yaml").write_text("servers: nowhere\n")
    try:
        ran = place.run("modes", "--json", *place.options)
        assert (ran.returncode, ran.stderr.count("\n")) == (0, 1)
        assert f"servers.yaml:1: servers: must be a list (in {place.data})" in ran.stderr
        assert "base" in [mode["mode"] for mode in objects(ran.stdout)]
        refused(place.run("modes", *place.options, "--backend", "gpu"), "servers.yaml:1")
    finally:
        (place.data / "servers.yaml").unlink()


def test_a_reader_that_has_seen_enough_is_no_error(place: Place) -> None:
    # The pipe's other end is closed before anything is written, as `| head -0` would.
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        ran = subprocess.run(
            [sys.executable, str(ROOT / "app.py"), "modes", *place.options],
            stdout=closed, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ran.stderr == ""
    assert ran.returncode == 1


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


def test_train_makes_an_adapter_that_ask_can_use(place: Place, tmp_path: Path) -> None:
    def rows(*questions: str) -> str:
        turns = [
            [{"role": "user", "content": question}, {"role": "assistant", "content": "jumps over"}]
            for question in questions
        ]
        return "".join(json.dumps({"messages": turn}) + "\n" for turn in turns)

    (tmp_path / "train.jsonl").write_text(rows("a fox?", "a dog?"))
    (tmp_path / "heldout.jsonl").write_text(rows("the fox?", "the dog?", "one fox?"))
    recipe = tmp_path / "recipe.yaml"
    # A folder's own name is the id of a base that says no other.
    recipe.write_text(
        f"name: jumper\ntitle: Jumper\ndescription: For tests.\nexamples: [One, Two, Three]\nbase: {place.base.name}\n"
        "quantization: none\ndtype: float32\nrank: 2\nalpha: 4\nlearning_rate: 5e-2\nwarmup: 0\npasses: 2\n"
        "batch_size: 1\nmax_length: 64\ntrain: train.jsonl\nheldout: heldout.jsonl\n"
        "gate: {persona: teller, gap: 100, forgetting: 100, bias: 100, consistency: 1, memorised: 1, pairs: 3}\n"
    )
    out = tmp_path / "made"
    ran = place.run("train", recipe, "--out", out, "--json", "--publish", *place.options)
    assert ran.returncode == 0, ran.stderr
    told = objects(ran.stdout)
    assert [one["event"] for one in told] == ["estimate"] + ["progress"] * 4 + ["testing"] * 7 + ["done"]
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


def test_a_persona_travels_out_and_home_again(place: Place, tmp_path: Path) -> None:
    data = ["--data-dir", tmp_path / "data"]
    out = tmp_path / "support.Modelfile"
    sent = place.run("export-persona", "support-desk", "--to", "modelfile", "--out", out, "--json", *data,
                     "--base", "llama3.2", "--adapter", place.data / "adapters" / "one")  # fmt: skip
    assert (sent.returncode, sent.stderr) == (0, "")
    [told] = objects(sent.stdout)
    assert list(told) == ["persona", "format", "out", "left"]
    assert f"\nFROM llama3.2\nADAPTER {place.data / 'adapters' / 'one'}\n" in out.read_text()
    refused(place.run("import-persona", out, *data), "There is a persona support-desk already")
    brought = place.run("import-persona", out, "--name", "other-desk", "--json", *data)
    assert (brought.returncode, brought.stderr) == (0, "")
    [told] = objects(brought.stdout)
    assert list(told) == ["name", "title", "sha256", "carried", "left"]
    assert told["name"] == "other-desk"
    assert (tmp_path / "data" / "personas" / "other-desk.yaml").exists()
    assert place.run("import-persona", out, "--replace", *data).stdout.startswith(
        "persona:support-desk\n  kept  "
    )
    back = tmp_path / "back.yaml"
    assert place.run("export-persona", "other-desk", "--to", "yaml", "--out", back, *data).returncode == 0
    refused(place.run("export-persona", "other-desk", "--to", "yaml", "--out", back, *data), "add --replace")
    again = place.run("export-persona", "other-desk", "--to", "card", "--out", back, "--replace", *data)
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(back.read_text())["spec"] == "chara_card_v2"


def test_what_cannot_travel_is_one_line_that_names_the_mend(place: Place, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"spec": "chara_card_v2", "data": {"name": 1, "description": []}}')
    out = tmp_path / "out"
    for arguments, told, status in (
        (["import-persona", tmp_path / "missing.json"], f"{tmp_path / 'missing.json'}", 2),
        (["import-persona", "missing.json"], "give the path of a file", 2),
        (["import-persona", tmp_path / "bad.json"], "name: must be text", 2),
        (["import-persona", tmp_path / "bad.json"], "description: must be text", 2),
        (["import-persona"], "FILE", 2),
        (["export-persona", "nobody", "--to", "card", "--out", out], "There are: code-explainer", 2),
        (["export-persona", "support-desk", "--to", "pdf", "--out", out], "choose card, card-png", 2),
        (["export-persona", "support-desk", "--to", "card"], "--out", 2),
        (
            ["export-persona", "support-desk", "--to", "card", "--out", tmp_path, "--replace"],
            "exists already",
            2,
        ),
        (["export-persona", "support-desk", "--to", "card", "--out", out / "x"], "another folder", 1),
        (
            ["export-persona", "support-desk", "--to", "card", "--out", out, "--adapter", tmp_path],
            "Modelfile",
            2,
        ),
        (
            ["export-persona", "support-desk", "--to", "modelfile", "--out", out, "--adapter", out],
            "no such folder",
            2,
        ),
    ):
        refused(place.run(*arguments, "--data-dir", tmp_path / "data"), told, status)
    assert not out.exists()


def test_help_is_answered_without_importing_anything_heavy() -> None:
    code = (
        "import sys, contextlib, io\nimport app\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    app.main([{0!r}])\n"
        "print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    )
    for option in ("--help", "-h"):
        ran = subprocess.run(
            [sys.executable, "-c", code.format(option)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        imported = set(ran.stdout.split())
        assert "argparse" in imported
        assert not imported & {"torch", "gradio", "transformers", "pydantic", "numpy", "peft", "fastapi"}


def test_help_names_every_command() -> None:
    ran = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    for command in (
        "serve",
        "ask",
        "modes",
        "check-adapter",
        "check-data",
        "train",
        "import-persona",
        "export-persona",
        "export-adapter",
    ):
        assert f"\n    {command}" in ran.stdout


IMPORT_ALL = """
import importlib, pathlib, sys
root = pathlib.Path.cwd()
rooms = [folder for folder in root.iterdir() if (folder / "__init__.py").exists() and folder.name != "tests"]
files = [*root.glob("*.py"), *(file for room in rooms for file in room.rglob("*.py"))]
names = {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files}
ours = {name.partition(".")[0] for name in names}
for name in sorted(names):
    # Each is the first to be imported once: an import that only works after another one fails here.
    for known in [known for known in sys.modules if known.partition(".")[0] in ours]:
        del sys.modules[known]
    importlib.import_module(name)
    print(name)
"""


def test_every_module_can_be_the_first_to_be_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    names = set(ran.stdout.split())
    assert {"app", "commands", "errors", "comparison.live", "backends.local.engine", "ui.page"} <= names
    assert not any(name.startswith("tests") for name in names)
