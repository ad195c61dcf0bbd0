"""What an exported adapter is to other programs: whole, true to the one it was made of, or not there at all."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import app
import durable
from adapters import export, passport
from adapters.inspection import Inspection
from adapters.safetensors_header import read_header
from adapters.validator import inspect
from backends.contract import BaseFacts
from errors import CounterpointError, WorkFailed
from personas.travel import modelfile
from tests import tiny
from tests.adapters.folders import CONFIG, WEIGHTS, add_passport, rewrite_tensors
from tests.comparison.conftest import TELLER

QUESTIONS = ("What is the capital of France?", "Are you there?", "When do you ship?")


def found(folder: Path, base: BaseFacts) -> Inspection:
    inspection = inspect(folder, base)
    assert inspection.usable, inspection.problems
    return inspection


def answers(model: Any, tokenizer: Any) -> list[list[int]]:
    """What the model says to each question, greedily, as tokens."""
    said = []
    for question in QUESTIONS:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        tokens = model.generate(**prompt, do_sample=False, min_new_tokens=24, max_new_tokens=24)
        said.append(tokens[0, prompt["input_ids"].shape[1] :].tolist())
    return said


def alone(folder: Path) -> list[list[int]]:
    """The answers of the model in `folder`, with nothing but that folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return answers(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def adapted(base: BaseFacts, folder: Path) -> list[list[int]]:
    """The answers of the base with the adapter in `folder` on it, as PEFT itself computes them."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.folder), str(folder))
    return answers(model, AutoTokenizer.from_pretrained(base.folder))


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_peft_export_is_the_adapter_to_the_byte_and_nothing_else(
    adapter: Path, base: BaseFacts, tmp_path: Path
) -> None:
    add_passport(adapter, base)
    (adapter / "optimizer.pt").write_bytes(b"of no use to anybody")
    before = state(adapter)
    export.to_peft(found(adapter, base), base, tmp_path / "out")
    assert files(tmp_path / "out") == [CONFIG, WEIGHTS, passport.FILE]
    for name in (CONFIG, WEIGHTS, passport.FILE):
        assert (tmp_path / "out" / name).read_bytes() == before[name][0]
    assert state(adapter) == before
    assert inspect(tmp_path / "out", base).base_proven
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out"]


@pytest.mark.parametrize("names", ["named after the adapter", "without a prefix"])
def test_a_peft_export_has_the_names_that_peft_reads_where_the_adapter_has_others(
    names: str, adapter: Path, base: BaseFacts, tmp_path: Path
) -> None:
    wanted = adapted(base, adapter)

    def foreign(name: str) -> str:
        if names == "without a prefix":
            return name.removeprefix("base_model.model.")
        return name.replace(".weight", ".default.weight")

    rewrite_tensors(adapter, lambda all_: {foreign(name): part for name, part in all_.items()})
    add_passport(adapter, base)
    export.to_peft(found(adapter, base), base, tmp_path / "out")
    assert adapted(base, tmp_path / "out") == wanted
    assert inspect(tmp_path / "out", base).base_proven
    export.to_merged(found(adapter, base), base, tmp_path / "whole")
    assert alone(tmp_path / "whole") == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"seed": 2, "rank": 3, "use_rslora": True},
        {
            "seed": 3,
            "rank_pattern": {"q_proj": 8, "layers.1.mlp.up_proj": 2},
            "alpha_pattern": {"v_proj": 32},
        },
        {"seed": 4, "targets": ("q_proj", "v_proj"), "scale": 1.0, "layers_to_transform": [1]},
        {"seed": 5, "targets": r".*\.(q_proj|down_proj)"},
    ],
    ids=["plain", "rank-stabilised", "patterns", "one layer", "a pattern for targets"],
)
def test_a_merged_model_answers_alone_as_the_adapter_does_on_its_base(
    settings: dict[str, Any], base: BaseFacts, tmp_path: Path
) -> None:
    adapter = tiny.make_adapter(tmp_path / "one", base.folder, **settings)
    wanted = adapted(base, adapter)
    assert wanted != alone(base.folder)
    export.to_merged(found(adapter, base), base, tmp_path / "out")
    assert alone(tmp_path / "out") == wanted


def test_a_merge_says_nothing_to_a_person_that_is_about_libraries(
    adapter: Path, base: BaseFacts, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    export.to_merged(found(adapter, base), base, tmp_path / "out")
    assert [each for each in recwarn if not issubclass(each.category, DeprecationWarning)] == []


def test_a_merge_of_another_adapter_answers_otherwise(
    tiny_adapters: dict[str, Path], base: BaseFacts, tmp_path: Path
) -> None:
    export.to_merged(found(tiny_adapters["two"], base), base, tmp_path / "out")
    assert alone(tmp_path / "out") == adapted(base, tiny_adapters["two"])
    assert alone(tmp_path / "out") != adapted(base, tiny_adapters["one"])


@pytest.mark.parametrize(("dtype", "kept"), [("auto", "F32"), ("float32", "F32"), ("bfloat16", "BF16")])
def test_a_merged_model_is_a_whole_one_in_the_wanted_type_that_names_no_place_of_this_machine(
    dtype: str, kept: str, adapter: Path, base: BaseFacts, tmp_path: Path
) -> None:
    before = state(adapter), state(base.folder)
    export.to_merged(found(adapter, base), base, tmp_path / "out", dtype)
    assert (state(adapter), state(base.folder)) == before
    out = tmp_path / "out"
    assert set(files(out)) >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert (out / "chat_template.jinja").read_text() == tiny.CHAT_TEMPLATE
    tensors = read_header(out / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {kept}
    assert set(tensors) == set(read_header(base.folder / "model.safetensors"))
    assert (
        json.loads((out / "config.json").read_text())["dtype"] == {"F32": "float32", "BF16": "bfloat16"}[kept]
    )
    for path in out.glob("*.json"):
        assert str(base.folder) not in path.read_text()
        assert str(tmp_path) not in path.read_text()


def test_an_adapter_too_strong_for_numbers_is_not_merged(
    adapter: Path, base: BaseFacts, tmp_path: Path
) -> None:
    rewrite_tensors(adapter, lambda all_: {name: part * 1e30 for name, part in all_.items()})
    with pytest.raises(CounterpointError, match="cannot be merged"):
        export.to_merged(found(adapter, base), base, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond what settings and headers take, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def make(to: str, inspection: Inspection, base: BaseFacts, out: Path) -> None:
    if to == "ollama":
        export.to_ollama(inspection, base, out, b"FROM smollm2:135m\n")
    else:
        (export.to_peft if to == "peft" else export.to_merged)(inspection, base, out)


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on a file's size")
@pytest.mark.parametrize("to", export.FORMATS)
def test_a_disk_that_is_full_is_one_line_that_names_the_mend_and_leaves_nothing(
    to: str, adapter: Path, base: BaseFacts, tmp_path: Path
) -> None:
    inspection = found(adapter, base)
    with full_disk(), pytest.raises(WorkFailed, match="make room on its disk") as error:
        make(to, inspection, base, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("to", export.FORMATS)
@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(errno.EIO, "Input/output error"), WorkFailed), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["no sync", "stopped"],
)
def test_an_export_that_cannot_be_made_to_last_or_is_stopped_leaves_nothing(
    error: BaseException,
    raised: type[BaseException],
    to: str,
    adapter: Path,
    base: BaseFacts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inspection = found(adapter, base)

    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr(durable, "sync", fail)
    with pytest.raises(raised):
        make(to, inspection, base, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_target_that_appears_meanwhile_is_left_as_it_is(
    adapter: Path, base: BaseFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = export.copy

    def meanwhile(*given: Any) -> None:
        copy(*given)
        (tmp_path / "out").mkdir()

    monkeypatch.setattr(export, "copy", meanwhile)
    with pytest.raises(CounterpointError, match="exists already"):
        export.to_peft(found(adapter, base), base, tmp_path / "out")
    assert files(tmp_path / "out") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out"]


def test_an_adapter_that_changed_since_it_was_checked_is_refused(
    adapter: Path, tiny_adapters: dict[str, Path], base: BaseFacts, tmp_path: Path
) -> None:
    inspection = found(adapter, base)
    shutil.copytree(tiny_adapters["two"], adapter, dirs_exist_ok=True)
    for to in export.FORMATS:
        with pytest.raises(CounterpointError, match="changed"):
            make(to, inspection, base, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_a_killed_export_left_long_ago_goes_with_the_next_and_nothing_else_does(
    adapter: Path, base: BaseFacts, tmp_path: Path
) -> None:
    old, new = (tmp_path / f".counterpoint-export-{digit * 32}" for digit in "ab")
    other = tmp_path / ".counterpoint-export-notes"
    for folder in (old, new, other):
        folder.mkdir()
    for folder in (old, other):
        os.utime(folder, (0, 0))
    export.to_peft(found(adapter, base), base, tmp_path / "out")
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def test_a_modelfile_holds_base_adapter_and_how_the_adapter_is_best_sampled() -> None:
    sampling = {"temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.1, "max_tokens": 128}
    parcel = modelfile.with_adapter("one", None, "smollm2:135m", "./adapter", sampling)
    assert parcel.content.decode() == (
        "# one\nFROM smollm2:135m\nADAPTER ./adapter\nPARAMETER temperature 0.0\nPARAMETER top_p 1.0\n"
        "PARAMETER repeat_penalty 1.1\nPARAMETER num_predict 128\n"
    )


@pytest.fixture
def options(adapter: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those of a person who has the adapter "one", a broken one, one of another base, and the persona teller."""
    data = tmp_path / "data"
    (data / "adapters").mkdir(parents=True)
    adapter.rename(data / "adapters" / "one")
    for name, change in (
        ("broken", {"use_dora": True}),
        ("foreign", {"base_model_name_or_path": "meta-llama/Llama-3.1-8B-Instruct"}),
    ):
        shutil.copytree(data / "adapters" / "one", data / "adapters" / name)
        tiny.edit_config(data / "adapters" / name, **change)
    (data / "personas").mkdir()
    (data / "personas" / "teller.yaml").write_text(TELLER)
    # The base says what it is, so that an adapter can be another's.
    named = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    config = json.loads((named / "config.json").read_text())
    config["_name_or_path"] = "HuggingFaceTB/SmolLM2-135M-Instruct"
    (named / "config.json").write_text(json.dumps(config))
    for name in [name for name in os.environ if name.startswith("COUNTERPOINT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COUNTERPOINT_CACHE_DIR", str(tmp_path / "cache"))
    return ["--base", str(named), "--data-dir", str(data)]


@pytest.mark.parametrize("to", export.FORMATS)
def test_the_command_makes_the_folder_and_says_so_as_one_json_object(
    to: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert app.main(["export-adapter", "one", "--to", to, "--out", str(out), "--json", *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert json.loads(printed.out) == {"adapter": "one", "format": to, "out": str(out), "left": []}
    assert printed.out.count("\n") == 1
    first = {"peft": CONFIG, "merged": "model.safetensors", "ollama": "Modelfile"}[to]
    assert (out / first).is_file()


def test_the_command_puts_a_persona_into_the_modelfile_and_ollamas_adapter_beside_it(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["export-adapter", "one", "--to", "ollama", "--persona", "teller", "--out", str(out), *options]
    assert app.main(given) == 0
    assert capsys.readouterr().out.startswith(f"{out}\n")
    text = (out / "Modelfile").read_text()
    assert f"\nFROM {tmp_path / 'base'}\nADAPTER ./adapter\nSYSTEM " in text
    home = modelfile.read(text.encode(), "Modelfile").persona
    assert home.name == "teller"
    assert files(out) == ["Modelfile", f"adapter/{CONFIG}", f"adapter/{WEIGHTS}"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing", "--to", "peft", "--out", "out"], "choose one of these: gazette"),
        (["../one", "--to", "peft", "--out", "out"], "choose one of these: gazette"),
        (["broken", "--to", "peft", "--out", "out"], "DoRA"),
        (["foreign", "--to", "merged", "--out", "out"], "names another base"),
        (["support", "--to", "merged", "--out", "out"], "can't be used"),
        (["one", "--to", "gguf", "--out", "out"], "choose peft, merged or ollama"),
        (["one", "--to", "peft"], "--out"),
        (["one", "--out", "out"], "--to"),
        (["one", "--to", "peft", "--out", "out", "--persona", "teller"], "leave --persona out"),
        (["one", "--to", "merged", "--out", "out", "--persona", "teller"], "leave --persona out"),
        (["one", "--to", "ollama", "--out", "out", "--persona", "nobody"], "There are: code-explainer"),
        (["one", "--to", "peft", "--out", "."], "exists already"),
        (["one", "--to", "peft", "--out", "no/such/out"], "there is no folder no/such"),
        (["one", "--to", "peft", "--out", "data/adapters/one/out"], "the adapter's own folder"),
        (["one", "--to", "merged", "--out", "out", "--dtype", "float16"], "choose auto or float32"),
    ],
    ids=lambda value: "-".join(value).replace("/", ".") if isinstance(value, list) else "",
)
def test_the_command_refuses_bad_input_with_one_line_and_makes_nothing(
    arguments: list[str],
    told: str,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = app.main(["export-adapter", *options, *arguments])
    except SystemExit as ended:  # argparse's own
        status = ended.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert (status, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert told in printed.err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob(".counterpoint-export-*"))
