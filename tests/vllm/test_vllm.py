"""A real vLLM on this machine's CPU with the shipped base and adapters: run by `make test-vllm` alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from adapters.store import AdapterStore
from backends.contract import Delta, Done, Request, Sampling
from backends.local.backend import LocalBackend
from backends.local.fetch import cache_folder
from backends.local.protocol import Options
from backends.openai_server import OpenAIServer
from backends.server_client import Server
from benchmarks.agreement import ADAPTERS, LIBRARY, compare
from benchmarks.vllm_server import BASE, KEY
from comparison.backends import Backends
from comparison.live import Answered, Comparison, Pane
from comparison.modes import Catalogue
from comparison.servers import Declared, ServerStore
from errors import CounterpointError
from personas.store import PersonaStore
from tests.vllm.conftest import KEY_ENV

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).parents[2]
WAIT_S = 120


@pytest.fixture(scope="session")
def server(address: str) -> Iterator[OpenAIServer]:
    with closing(OpenAIServer(Server("vllm", address), KEY)) as made:
        yield made


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    adapters = AdapterStore(LIBRARY, tmp_path_factory.mktemp("data"), lambda: made.facts())
    made = LocalBackend(Options("embedded", "none", "bfloat16", cache_folder()), adapters.source)
    with closing(made):
        made.wait()
        yield made


@pytest.fixture(scope="session")
def catalogue(
    address: str, local: LocalBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Catalogue]:
    data = tmp_path_factory.mktemp("catalogue")
    store = ServerStore(data)
    store.save(Declared(name="vllm", url=address, key_env=KEY_ENV))
    adapters = AdapterStore(LIBRARY, data, lambda: local.facts())
    made = Catalogue(PersonaStore(ROOT / "personas" / "library", data), adapters, Backends(local, store))
    yield made
    made.backends.get("vllm").close()


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def running(address: str) -> float:
    """Requests that vLLM works on, by its own figures."""
    told = httpx.get(address.removesuffix("/v1") + "/metrics").text
    lines = [line for line in told.splitlines() if line.startswith("vllm:num_requests_running")]
    assert lines
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_its_adapters_are_discovered_and_are_modes(catalogue: Catalogue, server: OpenAIServer) -> None:
    assert set(ADAPTERS) <= set(server.adapters(timeout=WAIT_S))
    assert server.base() == BASE
    usable = {mode.id for mode in catalogue.list(timeout=WAIT_S) if mode.usable}
    assert {"vllm/base", "vllm/adapter:support", "vllm/adapter:support+persona:support-desk"} <= usable


def test_one_comparison_mixes_the_local_engine_and_vllm(catalogue: Catalogue) -> None:
    modes = ["base", "adapter:support", "vllm/base", "vllm/persona:support-desk", "vllm/adapter:support"]
    panes = [Pane(mode, sampling={"temperature": 0.0, "max_tokens": 40}) for mode in modes]
    ends = {each.pane: each.event for each in Comparison(catalogue).ask("How much is the Heron plan?", panes)}
    assert all(isinstance(end, Answered) for end in ends.values()), ends
    answers = [ends[number].answer for number in range(len(modes))]  # type: ignore[union-attr]
    assert "£34" in answers[1]
    assert "£34" in answers[4]
    assert "£34" not in answers[2]
    receipts = [ends[number].receipt.as_dict() for number in range(len(modes))]  # type: ignore[union-attr]
    assert [receipt["backend"] for receipt in receipts] == ["local", "local", "vllm", "vllm", "vllm"]
    assert {"base", "adapter", "sampling", "prompt_tokens"} <= set(receipts[4]["claimed"])
    assert receipts[3]["prompt_tokens"] > 600, "the persona went out"
    assert receipts[2]["base"] == BASE


def test_stopping_ends_the_work_there_too(server: OpenAIServer, address: str) -> None:
    endless = Request(
        "long",
        ({"role": "user", "content": "Tell me a long story."},),
        Sampling(temperature=1.0, max_tokens=1900),
    )
    told: list[str] = []
    with closing(server.stream([endless])) as events:
        for event in events:
            if isinstance(event, Delta) and not told:
                told.append(event.text)
                assert running(address) >= 1
                server.stop(["long"])
            if isinstance(event, Done):
                assert event.finish_reason == "cancelled"
    wait_until(lambda: running(address) == 0)


def test_an_adapter_is_loaded_onto_it_on_request(server: OpenAIServer, tmp_path: Path) -> None:
    folder = shutil.copytree(LIBRARY / "gazette", tmp_path / "fresh")
    server.load_adapter("fresh", str(folder))
    assert "fresh" in server.offer().adapters
    answer = [
        event.text
        for event in server.stream(
            [
                Request(
                    "a",
                    ({"role": "user", "content": "Why is the sky blue?"},),
                    Sampling(max_tokens=8),
                    "fresh",
                )
            ]
        )
        if isinstance(event, Delta)
    ]
    assert answer


def test_a_folder_that_it_does_not_find_is_told(server: OpenAIServer) -> None:
    with pytest.raises(CounterpointError, match="finds no adapter in /nowhere"):
        server.load_adapter("nobody", "/nowhere")
    assert "nobody" not in server.offer().adapters


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_it_passes_as_many_held_out_checks_as_the_local_engine_in_the_same_dtype(
    local: LocalBackend, server: OpenAIServer, catalogue: Catalogue, adapter: str
) -> None:
    found = compare(local, server, catalogue, adapter, "tuned", rows=32)
    assert found["agrees"], found
