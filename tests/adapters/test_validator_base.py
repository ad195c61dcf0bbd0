"""Is it for this base? Proven by a passport, not proven by a name, refused where it plainly is another's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.validator import as_dict, describe, inspect
from backends.contract import BaseFacts
from tests import tiny
from tests.adapters.folders import WEIGHTS, add_passport, rewrite_tensors


def test_a_passport_with_the_bases_sha256_proves_the_base(adapter: Path, base: BaseFacts) -> None:
    tiny.edit_config(adapter, base_model_name_or_path="meta-llama/Llama-2-7b-hf")
    found = inspect(add_passport(adapter, base), base)
    assert found.usable
    assert found.base_proven
    assert found.warnings == ()
    assert found.passport is not None
    assert found.passport.title == "One"


def test_a_passport_for_another_base_is_refused_unless_overridden(adapter: Path, base: BaseFacts) -> None:
    add_passport(adapter, base, base_sha256="cd" * 32)
    found = inspect(adapter, base)
    assert not found.usable
    assert "trained on another base" in found.problems[0]
    overridden = inspect(adapter, base, override_base=True)
    assert overridden.usable
    assert not overridden.base_proven
    assert "not proven" in overridden.warnings[0]


def test_weights_changed_after_the_training_are_refused_even_when_overridden(
    adapter: Path, base: BaseFacts
) -> None:
    add_passport(adapter, base)
    rewrite_tensors(adapter, lambda all: {name: tensor * 2 for name, tensor in all.items()})
    for override in (False, True):
        found = inspect(adapter, base, override_base=override)
        assert not found.usable
        assert not found.base_proven
        assert "is not the file that passport.json was written for" in found.problems[0]


def test_a_broken_passport_is_a_problem_and_another_tools_is_none(adapter: Path, base: BaseFacts) -> None:
    (adapter / "passport.json").write_text('{"schema_version": 1}')
    assert "passport.json" in inspect(adapter, base).problems[0]
    (adapter / "passport.json").write_text(" " * (2**20 + 1))
    assert "larger" in inspect(adapter, base).problems[0]
    (adapter / "passport.json").write_text('{"issued_by": "another tool"}')
    assert inspect(adapter, base).usable


@pytest.mark.parametrize(
    "named",
    [
        None,
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "huggingfacetb/smollm2-135m-instruct",
        "unsloth/SmolLM2-135M-Instruct",
        "unsloth/smollm2-135m-instruct-bnb-4bit",
        "unsloth/SmolLM2-135M-Instruct-unsloth-bnb-4bit",
        "/home/somebody/models/SmolLM2-135M-Instruct/",
        "C:\\models\\SmolLM2-135M-Instruct",
        "~/.cache/huggingface/hub/models--HuggingFaceTB--SmolLM2-135M-Instruct/snapshots/12fd25f77366fa6b3b4b768ec3050bf6",
        "/root/autodl-tmp/base",
        "./output/checkpoint-300",
        "models/my-model",
        "HuggingFaceTB/SmolLM2-135M",
        "somebody/smollm2-135m-pirate",
        "",
    ],
)
def test_a_name_that_may_be_this_base_is_usable_and_not_proven(
    named: str | None, adapter: Path, base: BaseFacts
) -> None:
    found = inspect(tiny.edit_config(adapter, base_model_name_or_path=named), base)
    assert found.problems == ()
    assert not found.base_proven
    assert found.warnings[0].startswith("base not proven")


@pytest.mark.parametrize(
    "named",
    [
        "meta-llama/Llama-2-7b-hf",
        "/data/models/Llama-2-7b-hf",
        "Qwen/Qwen2.5-0.5B-Instruct",
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        "HuggingFaceTB/SmolLM-135M-Instruct",
        "unsloth/llama-3.2-1b-instruct-bnb-4bit",
        "/root/.cache/huggingface/hub/models--deepseek-ai--deepseek-llm-7b-base/snapshots/7683fea62db869066ddaff6a41d032262c490d4f",
        "facebook/opt-125m",
        "gpt2",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "acme/frobnicate-instruct",
    ],
)
def test_a_name_that_is_plainly_another_is_refused_unless_overridden(
    named: str, adapter: Path, base: BaseFacts
) -> None:
    tiny.edit_config(adapter, base_model_name_or_path=named)
    found = inspect(adapter, base)
    assert not found.usable
    assert named[:90] in found.problems[0]
    overridden = inspect(adapter, base, override_base=True)
    assert overridden.usable
    assert named[:90] in overridden.warnings[0]
    assert not overridden.base_proven


def test_an_override_does_not_make_shapes_fit(adapter: Path, base: BaseFacts) -> None:
    wider = replace(base, linears={name: (out, into + 64) for name, (out, into) in base.linears.items()})
    assert "do not fit" in inspect(adapter, wider, override_base=True).problems[0]


def test_a_base_without_a_telling_name_refuses_nobody_by_name(adapter: Path, base: BaseFacts) -> None:
    tiny.edit_config(adapter, base_model_name_or_path="/data/Llama-2-7b-hf")
    assert inspect(adapter, replace(base, id="/srv/base")).usable


@pytest.mark.parametrize(
    ("ours", "theirs", "usable"),
    [
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Mistral-7B-Instruct-v0.1", False),
        ("mistralai/Mistral-7B-Instruct-v0.3", "unsloth/mistral-7b-instruct-v0.3-bnb-4bit", True),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3-8B-Instruct", False),
        ("meta-llama/Llama-3.1-8B-Instruct", "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", True),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2-0.5B-Instruct", False),
        ("Qwen/Qwen2.5-0.5B-Instruct", "/models/Qwen2.5-0.5B-Instruct-AWQ", True),
        ("microsoft/phi-2", "microsoft/Phi-3-mini-4k-instruct", False),
    ],
)
def test_family_version_and_size_tell_models_apart(
    ours: str, theirs: str, usable: bool, adapter: Path, base: BaseFacts
) -> None:
    tiny.edit_config(adapter, base_model_name_or_path=theirs)
    assert inspect(adapter, replace(base, id=ours)).usable is usable


def test_the_report_tells_a_person_and_a_program_the_same(adapter: Path, base: BaseFacts) -> None:
    proven = inspect(add_passport(adapter, base), base)
    lines = describe(proven)
    assert lines[0] == "one: usable"
    assert any("rank 4" in line for line in lines)
    fields = json.loads(json.dumps(as_dict(proven)))
    assert fields["usable"] is True
    assert fields["base_proven"] is True
    assert fields["passport"]["adapter_sha256"] == fields["sha256"]
    (adapter / WEIGHTS).unlink()
    broken = inspect(adapter, base)
    assert describe(broken)[0] == "one: not usable"
    assert as_dict(broken)["problems"] == list(broken.problems)
