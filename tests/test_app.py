"""The command line as a person or a program meets it: each command in a process of its own, on the tiny base."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from assembly import Places
from tests.command_line import ROOT, Place, objects, refused
from tests.comparison.conftest import TELLER

RECEIPT = [
    "base", "base_sha256", "quantization", "adapter", "adapter_sha256", "adapter_scale", "persona",
    "persona_sha256", "prompt", "prompt_sha256", "sampling", "seed", "prompt_tokens", "completion_tokens",
    "ttft_s", "tokens_per_s", "backend", "dtype",
]  # fmt: skip
QUESTION = "What is the capital of France?"


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


def test_modes_prints_nothing_that_steers_a_terminal(place: Place) -> None:
    steering = TELLER.replace("name: teller", "name: steering").replace(
        "title: The teller", 'title: "A\\e]0;x\\a"'
    )
    (place.data / "personas" / "steering.yaml").write_text(steering)
    ran = place.run("modes", *place.options)
    (place.data / "personas" / "steering.yaml").unlink()
    line = next(line for line in ran.stdout.splitlines() if line.startswith("persona:steering"))
    assert line.isprintable()


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


@pytest.mark.slow
def test_every_module_can_be_the_first_to_be_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    names = set(ran.stdout.split())
    assert {"app", "commands", "errors", "comparison.live", "backends.local.engine", "ui.page"} <= names
    assert not any(name.startswith("tests") for name in names)


STEPPER = (
    TELLER.replace("name: teller", "name: stepper")
    + """\
steps:
  - {name: outline, prompt: "Outline: {{question}}", max_tokens: 4}
  - {name: polish, prompt: "Polish <{{outline}}>", max_tokens: 5}
"""
)


def test_ask_prints_what_the_steps_of_a_persona_wrote_and_json_has_them_in_the_receipt(place: Place) -> None:
    (place.data / "personas" / "stepper.yaml").write_text(STEPPER)
    flood = STEPPER.replace("name: stepper", "name: flooder").replace("Polish", "{{outline}} " * 600)
    (place.data / "personas" / "flooder.yaml").write_text(flood)
    asked = ["ask", QUESTION, "--mode", "persona:stepper", "--seed", "3", *place.options]
    ran = place.run(*asked, "--mode", "base", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    stepped, base = objects(ran.stdout)
    assert list(stepped["receipt"]) == [*RECEIPT, "steps"]
    assert list(base["receipt"]) == RECEIPT
    [outline] = stepped["receipt"]["steps"]
    assert outline["name"] == "outline"
    assert f"Outline: {QUESTION}" in outline["prompt"]
    assert f"Polish <{outline['answer']}>" in stepped["receipt"]["prompt"]
    ran = place.run(*asked, "--mode", "persona:flooder")
    assert ran.returncode == 1
    titles = [line.partition("  (")[0] for line in ran.stdout.splitlines() if line.startswith("── ")]
    assert titles == [
        "── persona:stepper, step outline",
        "── persona:stepper",
        "── persona:flooder, step outline",
    ]
    assert ran.stderr.startswith("counterpoint: persona:flooder: Step polish (2 of 2): The prompt has ")
    assert ran.stderr.count("\n") == 1
    for name in ("stepper", "flooder"):
        (place.data / "personas" / f"{name}.yaml").unlink()
