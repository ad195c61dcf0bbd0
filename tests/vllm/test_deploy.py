"""The configuration for Ray Serve LLM, validated by Ray itself in vLLM's environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.vllm_server import PYTHON, ROOT

pytestmark = pytest.mark.vllm


WRONG = {
    "max_ongoing_requests: 128": "max_ongoing_requests: many",
    "model_id: smollm2": "model_idd: smollm2",
    "target_ongoing_requests: 64": "target_ongoing: 64",
    "max_lora_rank: 16": "max_lora_rank: 17",
    "max_cpu_loras: 32": "max_cpu_loras: 4",
    "enable_lora: true": "enable_lora: maybe",
    "max_num_adapters_per_replica: 32": "max_adapters: 32",
}


def check(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), str(ROOT / "deploy" / "check.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_ray_and_vllm_take_the_configuration_and_each_mistake_in_it_is_told(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "ray_serve.yaml").read_text()
    places = []
    for number, (right, wrong) in enumerate(WRONG.items()):
        assert right in text
        places.append(tmp_path / f"wrong-{number}.yaml")
        places[-1].write_text(text.replace(right, wrong))
    ran = check(ROOT / "deploy" / "ray_serve.yaml", *places)
    assert ran.returncode == 1
    assert "counterpoint: smollm2" in ran.stdout
    assert str(ROOT / "deploy") not in ran.stderr
    told = [line for line in ran.stderr.splitlines() if line.startswith(str(tmp_path))]
    assert [Path(line.partition(": ")[0]) for line in told] == places, ran.stderr[-3000:]


def test_the_configuration_that_ships_is_the_default() -> None:
    ran = check()
    assert ran.returncode == 0, ran.stderr[-2000:]
