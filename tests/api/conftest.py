"""The API as it is served: real HTTP, on the tiny base with two adapters or over a scripted backend."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from adapters.store import AdapterStore
from api.access import Doorkeeper
from api.routes import Api
from backends.contract import Backend
from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from comparison.backends import Backends
from comparison.live import Comparison
from comparison.modes import Catalogue
from personas.store import PersonaStore
from tests.comparison.conftest import lay_out


@contextmanager
def served(
    comparison: Comparison, keys: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
) -> Iterator[str]:
    """The address of a real server of this comparison's API."""
    doors = [Middleware(Doorkeeper, keys=keys)] if keys else []
    app = Starlette(routes=Api(comparison, clock).routes, middleware=doors)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@pytest.fixture(scope="session")
def tiny_comparison(
    tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Comparison]:
    place = lay_out(tmp_path_factory.mktemp("api"), tiny_adapters)
    made: list[LocalBackend] = []
    adapters = AdapterStore(place / "adapters", place / "data", lambda: made[0].facts())
    made.append(LocalBackend(Options(str(tiny_base), "none", "auto", place / "cache"), adapters.source))
    with closing(made[0]) as backend:
        backend.wait()
        personas = PersonaStore(place / "personas", place / "data")
        yield Comparison(Catalogue(personas, adapters, Backends(backend)))


@pytest.fixture(scope="session")
def tiny_api(tiny_comparison: Comparison) -> Iterator[str]:
    with served(tiny_comparison) as address:
        yield address


Serve = Callable[..., str]


@pytest.fixture
def serve(tiny_comparison: Comparison) -> Iterator[Serve]:
    """serve(backend, …what `served` takes): the API over that backend, with the tiny base's personas and adapters."""
    with ExitStack() as stack:

        def begin(backend: Backend, **told: Any) -> str:
            catalogue = tiny_comparison.catalogue
            own = Catalogue(catalogue.personas, catalogue.adapters, Backends(backend))
            return stack.enter_context(served(Comparison(own), **told))

        yield begin
