"""The configuration for Ray Serve LLM, validated by Ray itself in vLLM's environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.vllm_server import PYTHON, ROOT

pytestmark = pytest.mark.vllm


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), str(ROOT / "deploy" / "check.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_ray_takes_the_configuration() -> None:
    ran = check()
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "counterpoint: smollm2" in ran.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("max_ongoing_requests: 128", "max_ongoing_requests: many"),
        ("model_id: smollm2", "model_idd: smollm2"),
    ],
)
def test_ray_refuses_one_that_is_wrong(tmp_path: Path, right: str, wrong: str) -> None:
    text = (ROOT / "deploy" / "ray_serve.yaml").read_text()
    assert right in text
    (tmp_path / "wrong.yaml").write_text(text.replace(right, wrong))
    assert check(str(tmp_path / "wrong.yaml")).returncode != 0
