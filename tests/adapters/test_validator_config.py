"""adapter_config.json: what one batch can hold is read as PEFT reads it, the rest refused with a reason."""

from __future__ import annotations

import json
import math
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.validator import inspect
from backends.contract import BaseFacts
from tests import tiny
from tests.adapters.folders import CONFIG


def only_problem(folder: Path, base: BaseFacts) -> str:
    found = inspect(folder, base)
    assert found.source is None
    assert not found.usable
    assert len(found.problems) == 1, found.problems
    assert "\n" not in found.problems[0]
    return found.problems[0]


def peft_scaling(base_folder: Path, folder: Path) -> dict[str, float]:
    """What PEFT itself scales each adapted module with."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder), folder)
    return {
        name.removeprefix("base_model.model."): module.scaling["default"]
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def test_a_sound_adapter_has_no_problems_and_a_complete_source(adapter: Path, base: BaseFacts) -> None:
    found = inspect(adapter, base)
    assert found.problems == ()
    assert found.usable
    assert found.source is not None
    assert found.source.weights == adapter.resolve() / "adapter_model.safetensors"
    assert set(found.source.scaling) == set(base.linears) == set(found.source.keys)
    assert set(found.source.scaling.values()) == {2.0}
    assert found.rank == 4
    assert found.lora_alpha == 8
    assert found.parameters == sum(4 * (out + into) for out, into in base.linears.values())
    assert set(found.targets) == set(tiny.TARGETS)


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"use_rslora": True, "alpha_pattern": {"k_proj": 3}, "rank_pattern": {"k_proj": 16}},
        {
            "rank_pattern": {"layers.0.self_attn.q_proj": 2},
            "alpha_pattern": {"q_proj": 32, "self_attn.q_proj": 5},
        },
        {"alpha_pattern": {r"^model\.layers\.1\.mlp\.up_proj": 1, ".*down_proj": 7, "proj": 9}},
        {
            "alpha_pattern": {
                r"layers\.\d+\.mlp\.(gate|up)_proj": 1.5,
                "^q_proj": 99,
                "model.layers.0.mlp.down_proj": 4,
            }
        },
        {"alpha_pattern": {"self.attn.q_proj": 3, "self_attn.v_proj$": 4, "mlp..p_proj": 5}},
        {"layers_to_transform": [1], "layers_pattern": "layers"},
        {"layers_to_transform": 0},
        {"exclude_modules": ["k_proj", "model.layers.0.mlp.up_proj"]},
        {"targets": "all-linear"},
        {"targets": r".*\.(q|down)_proj"},
        {"targets": ["model.layers.1.self_attn.q_proj", "mlp.up_proj"]},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"init_lora_weights": "orthogonal"},
    ],
    ids=lambda config: ",".join(config),
)
def test_modules_and_scaling_are_those_of_peft(
    config: dict[str, Any], tiny_base: Path, tmp_path: Path, base: BaseFacts
) -> None:
    folder = tiny.make_adapter(tmp_path / "one", tiny_base, **config)
    found = inspect(folder, base)
    assert found.problems == ()
    assert found.source is not None
    assert found.source.scaling == pytest.approx(peft_scaling(tiny_base, folder))


def test_rank_stabilised_scaling_divides_by_the_root(
    tiny_base: Path, tmp_path: Path, base: BaseFacts
) -> None:
    folder = tiny.make_adapter(tmp_path / "one", tiny_base, rank=8, alpha=8, use_rslora=True)
    found = inspect(folder, base)
    assert found.scaling == "alpha / sqrt(r)"
    assert found.source is not None
    assert set(found.source.scaling.values()) == {8 / math.sqrt(8)}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "lora_only"}, "bias"),
        ({"bias": "all"}, "bias"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa_niter_2"}, "init_lora_weights"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_one_batch_cannot_hold_is_refused_as_peft_saves_it(
    config: dict[str, Any], field: str, tiny_base: Path, tmp_path: Path, base: BaseFacts
) -> None:
    found = inspect(tiny.make_adapter(tmp_path / "one", tiny_base, **config), base)
    assert found.source is None
    assert field in found.problems[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "LOHA"}, "only LORA"),
        ({"peft_type": None}, "only LORA"),
        ({"peft_type": ["LORA"]}, "only LORA"),
        ({"task_type": "SEQ_CLS"}, "only CAUSAL_LM"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["embed_tokens"]}, "whole layers"),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, "token embeddings"),
        ({"layer_replication": [[0, 1]]}, "deeper model"),
        ({"lora_bias": True}, "lora_bias false"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "target_modules"),
        ({"alora_invocation_tokens": [1]}, "activated LoRA"),
        ({"use_qalora": True}, "QA-LoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA"),
        ({"kasa_config": {"beta": 0.1}}, "KaSA"),
        ({"monteclora_config": {"x": 1}}, "MonteCLoRA"),
        ({"arrow_config": {"top_k": 1}}, "Arrow"),
        ({"bias": "all"}, "bias 'none'"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"init_lora_weights": "pissa"}, "rewrites the base"),
        ({"init_lora_weights": "PiSSA_niter_4"}, "rewrites the base"),
        ({"init_lora_weights": "olora"}, "rewrites the base"),
        ({"init_lora_weights": "corda"}, "rewrites the base"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights true"),
        ({"init_lora_weights": "lora_ga"}, "rewrites the base"),
        ({"init_lora_weights": "moonshine"}, "unknown"),
        ({"init_lora_weights": {"a": 1}}, "unknown"),
        ({"twist_the_base": 3}, "'twist_the_base' is unknown"),
        ({"r": 65}, "lower rank"),
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"r": None}, "r is None"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_alpha": -8}, "lora_alpha is -8"),
        ({"lora_alpha": 1e30}, "lora_alpha is"),
        ({"lora_alpha": "16"}, "lora_alpha is '16'"),
        ({"rank_pattern": [1]}, "rank_pattern is no table"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern of 'q_proj'"),
        ({"alpha_pattern": {"q_proj": -1}}, "alpha_pattern of 'q_proj'"),
        ({"alpha_pattern": {"(?=a)q_proj": 1}}, "not evaluated"),
        ({"alpha_pattern": {"(.|.)" * 24: 1}}, "not evaluated"),
        ({"alpha_pattern": {".*.*.*x": 1}}, "not evaluated"),
        ({"target_modules": {"q_proj": 1}}, "target_modules is neither"),
        ({"target_modules": ["q_proj", 3]}, "target_modules is neither"),
        ({"exclude_modules": 3}, "exclude_modules is neither"),
        ({"layers_to_transform": ["0"]}, "layers_to_transform"),
        ({"layers_to_transform": [0], "layers_pattern": "(a+)+"}, "layers_pattern"),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path"),
    ],
    ids=str,
)
def test_each_refused_setting_is_one_line_that_names_the_mend(
    changes: dict[str, Any], words: str, adapter: Path, base: BaseFacts
) -> None:
    assert words in only_problem(tiny.edit_config(adapter, **changes), base)


def test_all_problems_are_told_at_once(adapter: Path, base: BaseFacts) -> None:
    found = inspect(tiny.edit_config(adapter, use_dora=True, bias="all", r=1000, task_type="SEQ_CLS"), base)
    assert len(found.problems) == 4


def test_settings_of_the_training_alone_and_unset_novelties_are_no_problem(
    adapter: Path, base: BaseFacts
) -> None:
    tiny.edit_config(
        adapter,
        lora_dropout=0.1,
        eva_config={"rho": 2.0},
        loftq_config={"bits": 4},
        brand_new=None,
        other_new=False,
    )
    assert inspect(adapter, base).problems == ()


def test_a_target_that_the_base_has_not_is_named(adapter: Path, base: BaseFacts) -> None:
    tiny.edit_config(adapter, target_modules=[*tiny.TARGETS, "qkv_proj"])
    assert "'qkv_proj'" in only_problem(adapter, base)


def test_ranks_that_contradict_the_weights_are_told(adapter: Path, base: BaseFacts) -> None:
    assert "correct r" in only_problem(tiny.edit_config(adapter, r=8), base)
    tiny.edit_config(adapter, r=4, rank_pattern={"model.layers.0.mlp.up_proj": 2})
    assert "model.layers.0.mlp.up_proj: 4, not 2" in only_problem(adapter, base)


@pytest.mark.parametrize("field", ["target_modules", "rank_pattern", "alpha_pattern", "exclude_modules"])
def test_a_hostile_regular_expression_is_never_run(field: str, adapter: Path, base: BaseFacts) -> None:
    """Evaluated, any of these takes longer than the age of the universe on a module's name."""
    hostile = r"((((.|\w)+)+)+)+!"
    value = {hostile: 4} if field.endswith("_pattern") else hostile
    tiny.edit_config(adapter, **{field: value})
    # In a process of its own, which can be ended: a regular expression at work can't be interrupted.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(inspect, (adapter, base)).get(timeout=120)
    assert found.usable == (field != "alpha_pattern")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ('{"r": 4, "r": 8}', "'r' twice"),
        ('{"peft_type": "LORA", "lora_alpha": NaN}', "NaN"),
        ('{"peft_type": "LORA", "lora_alpha": Infinity}', "Infinity"),
        ('{"a": ' + "[" * 100_000, "deeply"),
        ('{"r": ' + "9" * 5000 + "}", "read"),
        ('{"x": "' + "y" * 2**20 + '"}', "larger"),
    ],
    ids=["empty", "cut", "list", "twice", "nan", "infinity", "deep", "digits", "large"],
)
def test_a_configuration_that_is_no_strict_json_is_one_problem(
    text: str, words: str, adapter: Path, base: BaseFacts
) -> None:
    (adapter / CONFIG).write_text(text)
    assert words in only_problem(adapter, base)


def test_what_a_file_says_cannot_steer_the_terminal(adapter: Path, base: BaseFacts) -> None:
    tiny.edit_config(adapter, peft_type="LO\x1b[2J\nHA" + "A" * 500)
    problem = only_problem(adapter, base)
    assert problem.isprintable()
    assert len(problem) < 200


def test_looking_needs_no_torch(adapter: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from adapters.validator import inspect; "
        "from backends.contract import BaseFacts; "
        f"found = inspect(Path({str(adapter)!r}), BaseFacts('x', Path('x'), '0', (), {{}})); "
        "assert found.problems; "
        "heavy = {'torch', 'transformers', 'peft', 'safetensors', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_config_of_an_old_peft_passes(adapter: Path, base: BaseFacts) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    kept = (
        "auto_mapping base_model_name_or_path bias fan_in_fan_out inference_mode init_lora_weights lora_alpha"
    )
    kept += " lora_dropout modules_to_save peft_type r target_modules task_type"
    (adapter / CONFIG).write_text(json.dumps({key: config[key] for key in kept.split()}))
    assert inspect(adapter, base).usable
