"""One vLLM for all of these tests: it takes a minute to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.local.fetch import cache_folder, locate
from benchmarks.agreement import ADAPTERS, LIBRARY
from benchmarks.serving import free_port
from benchmarks.vllm_server import KEY, vllm

KEY_ENV = "COUNTERPOINT_KEY_VLLM"
"""Where its key lies for who declares it; a Counterpoint that is started beside it inherits the variable."""


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("vllm")
    adapters = {name: LIBRARY / name for name in ADAPTERS}
    base = locate("embedded", cache_folder()).folder
    allowed = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    with (
        pytest.MonkeyPatch.context() as patch,
        vllm(base, adapters, free_port(), place / "vllm.log", allowed) as found,
    ):
        patch.setenv(KEY_ENV, KEY)
        yield found
