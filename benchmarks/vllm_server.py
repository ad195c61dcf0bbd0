"""vLLM on this machine with the shipped base and adapters, in an environment of its own (`make .venv-vllm/installed`)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
START_S = 300
BASE = "smollm2"
KEY = "the-key-of-the-vllm-that-is-tried"
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # else it leaves a core to others: on two cores it would compute on one
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def command(base: Path, adapters: Mapping[str, Path], port: int, dtype: str) -> list[str]:
    """What starts it: the options that the README gives, and those that this machine needs."""
    return [
        str(PYTHON), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(base), "--served-model-name", BASE, "--dtype", dtype, "--max-model-len", "2048",
        "--host", "127.0.0.1", "--port", str(port),
        "--enable-lora", "--max-loras", "8", "--max-lora-rank", "16", "--max-cpu-loras", "32",
        "--enable-prefix-caching",
        "--lora-modules", *(f"{name}={folder}" for name, folder in adapters.items()),
        "--api-key", KEY,
    ]  # fmt: skip


@contextmanager
def vllm(
    base: Path,
    adapters: Mapping[str, Path],
    port: int,
    log: Path,
    more: Mapping[str, str] | None = None,
    dtype: str = "bfloat16",
) -> Iterator[str]:
    """The address of a vLLM that serves `base` in `dtype` with these adapters to who sends KEY. Raises RuntimeError
    where it does not start; `more` are further environment variables."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
        **ENVIRONMENT,
        **(more or {}),
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(base, adapters, port, dtype), env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM ended at once:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"vLLM did not answer within {START_S} s:\n{log.read_text(errors='replace')[-2000:]}")
