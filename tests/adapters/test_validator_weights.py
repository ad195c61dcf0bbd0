"""adapter_model.safetensors and the folder around it: read by hand, never by a library, never a pickle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters.validator import inspect, slug
from backends.contract import BaseFacts
from tests import tiny
from tests.adapters.folders import CONFIG, PREFIX, WEIGHTS, rewrite_header, rewrite_tensors
from tests.adapters.test_validator_config import only_problem

A = PREFIX + "0.self_attn.q_proj.lora_A.weight"
B = PREFIX + "0.self_attn.q_proj.lora_B.weight"


def without(*names: str) -> Any:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def renamed(old: str, new: str) -> Any:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def test_an_a_without_its_b_is_told(adapter: Path, base: BaseFacts) -> None:
    assert "an A without its B" in only_problem(rewrite_tensors(adapter, without(B)), base)


def test_a_target_without_weights_is_told_with_the_number_of_others(adapter: Path, base: BaseFacts) -> None:
    rewrite_tensors(adapter, lambda all: {name: t for name, t in all.items() if ".layers.0.mlp." not in name})
    problem = only_problem(adapter, base)
    assert "model.layers.0.mlp.down_proj' and 2 more" in problem
    assert "has no weights" in problem


def test_weights_beyond_target_modules_are_told(adapter: Path, base: BaseFacts) -> None:
    tiny.edit_config(adapter, target_modules=["q_proj", "v_proj"])
    assert "target_modules leaves it out" in only_problem(adapter, base)


def test_all_linear_wants_every_linear_but_the_head(adapter: Path, base: BaseFacts) -> None:
    tiny.edit_config(adapter, target_modules="all-linear")
    rewrite_tensors(adapter, without(A, B))
    assert "q_proj'" in only_problem(adapter, base)


def test_layers_outside_of_layers_to_transform_are_told(adapter: Path, base: BaseFacts) -> None:
    problem = only_problem(tiny.edit_config(adapter, layers_to_transform=[1]), base)
    assert "model.layers.0" in problem
    assert "leaves it out" in problem


def test_weights_for_layers_that_the_base_has_not_are_told(adapter: Path, base: BaseFacts) -> None:
    rewrite_tensors(adapter, renamed("layers.1.", "layers.17."))
    assert "trained for another base" in only_problem(adapter, base)


@pytest.mark.parametrize("side", ["lora_A", "lora_B"])
def test_shapes_that_do_not_fit_the_base_are_told(side: str, adapter: Path, base: BaseFacts) -> None:
    rewrite_tensors(
        adapter,
        lambda all: {
            name: (t[:, :-1] if "lora_A" in side else t[:-1]) if side in name else t
            for name, t in all.items()
        },
    )
    assert "do not fit this base" in only_problem(adapter, base)


def test_a_rank_above_the_limit_in_the_weights_is_told(adapter: Path, base: BaseFacts) -> None:
    import torch

    def widen(tensors: dict[str, Any]) -> dict[str, Any]:
        (ins, outs) = (tensors[A].shape[1], tensors[B].shape[0])
        return tensors | {A: torch.ones(65, ins), B: torch.ones(outs, 65)}

    rewrite_tensors(tiny.edit_config(adapter, rank_pattern={"((q_proj))": 65}), widen)
    found = inspect(adapter, base)
    assert any("rank 65" in problem for problem in found.problems)
    assert not found.usable


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base_model.model.lm_head.weight", "whole head"),
        ("base_model.model.model.embed_tokens.weight", "whole embedding"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "token embedding"),
        (PREFIX + "0.self_attn.q_proj.lora_magnitude_vector", "DoRA"),
        (PREFIX + "0.self_attn.q_proj.lora_B.bias", "biases"),
        (PREFIX + "0.self_attn.q_proj.lora_diag", "KaSA"),
        ("base_model.model.score.modules_to_save.weight", "modules_to_save"),
        ("model.layers.0.self_attn.q_proj.lora_a", "MLX"),
        (PREFIX + "0.self_attn.q_proj.surprise", "no part of a LoRA"),
        ("x" * 10_000, "no part of a LoRA"),
    ],
)
def test_a_tensor_that_is_no_low_rank_weight_is_told(
    name: str, words: str, adapter: Path, base: BaseFacts
) -> None:
    import torch

    rewrite_tensors(adapter, lambda all: all | {name: torch.ones(2, 2)})
    problem = only_problem(adapter, base)
    assert words in problem
    assert len(problem) < 400


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_pass(dtype: str, adapter: Path, base: BaseFacts) -> None:
    import torch

    rewrite_tensors(adapter, lambda all: {name: t.to(getattr(torch, dtype)) for name, t in all.items()})
    assert inspect(adapter, base).usable


@pytest.mark.parametrize("dtype", ["float64", "int8", "float8_e4m3fn"])
def test_other_types_are_refused(dtype: str, adapter: Path, base: BaseFacts) -> None:
    import torch

    rewrite_tensors(adapter, lambda all: {name: t.to(getattr(torch, dtype)) for name, t in all.items()})
    assert "only F32, F16, BF16" in only_problem(adapter, base)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".weight", ".default.weight"),
        (".weight", ".my-run_2.weight"),
        ("base_model.model.", ""),
        ("base_model.model.", "base_model.model."),
    ],
)
def test_names_in_other_dialects_are_passed_on_to_the_engine(
    old: str, new: str, adapter: Path, base: BaseFacts
) -> None:
    rewrite_tensors(adapter, renamed(old, new))
    source = inspect(adapter, base).source
    assert source is not None
    assert source.keys["model.layers.0.self_attn.q_proj"] == (A.replace(old, new), B.replace(old, new))


def test_two_adapters_in_one_file_are_refused(adapter: Path, base: BaseFacts) -> None:
    rewrite_tensors(
        adapter,
        lambda all: {
            name.replace(".weight", ".a.weight" if "mlp" in name else ".b.weight"): t
            for name, t in all.items()
        },
    )
    assert "several adapters" in only_problem(adapter, base)


def test_a_module_with_weights_twice_is_refused(adapter: Path, base: BaseFacts) -> None:
    rewrite_tensors(adapter, lambda all: all | {A.replace(".weight", ".default.weight"): all[A].clone()})
    assert "weights twice" in only_problem(adapter, base)


def first_entry(header: dict[str, Any], **changes: Any) -> dict[str, Any]:
    name = next(name for name in header if name != "__metadata__")
    return header | {name: header[name] | changes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header: "not json at all", "begin with '{'"),
        (lambda header: '{"a": }', "not JSON"),
        (lambda header: {}, "no tensors"),
        (lambda header: {"__metadata__": {"format": "pt"}}, "no tensors"),
        (lambda header: header | {A: "here"}, "not described"),
        (lambda header: first_entry(header, extra=1), "not described"),
        (lambda header: first_entry(header, dtype="BOOL"), "'BOOL'"),
        (lambda header: first_entry(header, dtype=[]), "type []"),
        (lambda header: first_entry(header, shape=[-4, 64]), "no valid shape"),
        (lambda header: first_entry(header, shape=[2**40]), "no valid shape"),
        (lambda header: first_entry(header, shape="44"), "no valid shape"),
        (lambda header: first_entry(header, shape=[True, 4]), "no valid shape"),
        (lambda header: first_entry(header, shape=[4, 65]), "do not fit its shape"),
        (lambda header: first_entry(header, data_offsets=[0, 10**9]), "outside the file"),
        (lambda header: first_entry(header, data_offsets=[0]), "outside the file"),
        (lambda header: first_entry(header, data_offsets=[-4, 4]), "outside the file"),
        (lambda header: {"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}} | header, "overlap"),
        (lambda header: dict(list(header.items())[:-1]), "belong to no tensor"),
        (lambda header: dict([*list(header.items())[:1], *list(header.items())[2:]]), "holes"),
        (lambda header: json.dumps(header)[:-1] + "," + json.dumps(header)[1:], "twice"),
    ],
)
def test_each_broken_header_is_one_problem(change: Any, words: str, adapter: Path, base: BaseFacts) -> None:
    rewrite_header(adapter, lambda header: change({k: v for k, v in header.items() if k != "__metadata__"}))
    assert words in only_problem(adapter, base)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "0 bytes"),
        (b"12345678", "8 bytes"),
        ((2**63).to_bytes(8, "little") + b"{}", "longer than the file"),
        ((2).to_bytes(8, "little") + b"{}", "no tensors"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00" + b"os\nsystem\n" * 9, "longer than the file"),
        ((9 * 2**20).to_bytes(8, "little") + b" " * (9 * 2**20), "more than the"),
    ],
    ids=["empty", "no header", "endless header", "no tensors", "pickle", "large header"],
)
def test_a_file_that_is_no_safetensors_is_one_problem(
    raw: bytes, words: str, adapter: Path, base: BaseFacts
) -> None:
    (adapter / WEIGHTS).write_bytes(raw)
    assert words in only_problem(adapter, base)


def test_a_file_cut_off_in_its_data_is_told(adapter: Path, base: BaseFacts) -> None:
    raw = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(raw[:-1])
    assert "cut off" in only_problem(adapter, base)


def test_weights_above_the_size_limit_are_refused_unread(adapter: Path, base: BaseFacts) -> None:
    os.truncate(adapter / WEIGHTS, 3 * 2**30)
    assert "more than the" in only_problem(adapter, base)


def test_a_pickle_beside_no_safetensors_is_refused_with_the_way_to_convert_it(
    adapter: Path, base: BaseFacts
) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    problem = only_problem(adapter, base)
    assert "pickle" in problem
    assert "save_file" in problem


def test_missing_weights_are_told(adapter: Path, base: BaseFacts) -> None:
    (adapter / WEIGHTS).unlink()
    assert "missing" in only_problem(adapter, base)


def test_a_whole_model_is_recognised(tiny_base: Path, base: BaseFacts) -> None:
    assert "--base" in only_problem(tiny_base, base)


def test_the_newest_checkpoint_in_a_training_folder_is_pointed_to(
    adapter: Path, tmp_path: Path, base: BaseFacts
) -> None:
    for step in (50, 100, 9):
        shutil.copytree(adapter, tmp_path / "run" / f"checkpoint-{step}")
    assert "'checkpoint-100' inside has one (3 such)" in only_problem(tmp_path / "run", base)


def test_an_unknown_folder_is_told_by_what_it_holds(tmp_path: Path, base: BaseFacts) -> None:
    assert "holds nothing" in only_problem(tmp_path, base)
    (tmp_path / "notes.txt").touch()
    assert "'notes.txt'" in only_problem(tmp_path, base)
    (tmp_path / "recipe.yaml").touch()
    assert "not trained yet" in only_problem(tmp_path, base)
    assert "is a file" in only_problem(tmp_path / "notes.txt", base)
    assert "no folder" in only_problem(tmp_path / "absent", base)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, "passport.json"])
def test_a_link_out_of_the_folder_is_refused(
    name: str, adapter: Path, tmp_path: Path, base: BaseFacts
) -> None:
    outside = tmp_path / "outside"
    shutil.copy(adapter / CONFIG, outside)
    (adapter / name).unlink(missing_ok=True)
    (adapter / name).symlink_to(outside)
    assert f"{name} is a link out of the folder" in only_problem(adapter, base)


def test_a_pipe_in_place_of_a_file_does_not_block(adapter: Path, base: BaseFacts) -> None:
    (adapter / CONFIG).unlink()
    os.mkfifo(adapter / CONFIG)
    assert "no file" in only_problem(adapter, base)


def test_the_links_of_the_hubs_cache_are_followed(adapter: Path, tmp_path: Path, base: BaseFacts) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "abc", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in (CONFIG, WEIGHTS):
        (adapter / name).rename(blobs / name)
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    assert inspect(snapshot, base).usable


def test_names_are_slugs_of_the_folders(adapter: Path, base: BaseFacts) -> None:
    assert inspect(adapter, base).name == "one"
    assert slug("My Adapter (v2)!") == "my-adapter-v2"
    assert slug("../..") == "adapter"
    assert len(slug("é" * 300 + "a" * 300)) <= 64
    for bad in ("", "../x", "UP", ".hidden", "a" * 65, "a/b", "a\n"):
        assert "no adapter's name" in inspect(adapter, base, name=bad).problems[0]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_value_that_is_not_finite_makes_an_adapter_unusable(
    dtype: str, value: str, adapter: Path, base: BaseFacts
) -> None:
    import torch

    def spoil(tensors: dict[str, Any]) -> dict[str, Any]:
        spoilt = {name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()}
        spoilt[B][-1, -1] = float(value)
        return spoilt

    problem = only_problem(rewrite_tensors(adapter, spoil), base)
    assert B.removeprefix(PREFIX) in problem
    assert "values that are not finite: its training diverged" in problem


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_largest_and_the_smallest_numbers_are_finite(dtype: str, adapter: Path, base: BaseFacts) -> None:
    import torch

    kind = getattr(torch, dtype)

    def stretch(tensors: dict[str, Any]) -> dict[str, Any]:
        stretched = {name: tensor.to(kind) for name, tensor in tensors.items()}
        stretched[B][0, :2] = torch.tensor([torch.finfo(kind).max, torch.finfo(kind).min])
        stretched[B][1, :2] = torch.tensor([torch.finfo(kind).smallest_normal, -0.0])
        return stretched

    assert inspect(rewrite_tensors(adapter, stretch), base).problems == ()


@pytest.mark.parametrize("sides", [("lora_B",), ("lora_A",), ("0.self_attn.q_proj.lora_A", "lora_B")])
def test_an_adapter_whose_products_are_all_zero_has_no_effect(
    sides: tuple[str, ...], adapter: Path, base: BaseFacts
) -> None:
    def empty(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: -0.0 * t if any(side in name for side in sides) else t for name, t in tensors.items()}

    assert "it has no effect: " in only_problem(rewrite_tensors(adapter, empty), base)


def test_an_adapter_with_one_module_that_does_something_has_an_effect(adapter: Path, base: BaseFacts) -> None:
    def emptied(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: 0 * t if "lora_B" in name and name != B else t for name, t in tensors.items()}

    assert inspect(rewrite_tensors(adapter, emptied), base).usable
