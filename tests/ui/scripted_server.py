"""A declared server without a network: what it offers, and what it refuses, is set by the test."""

from __future__ import annotations

from pathlib import Path

from adapters.packing import Exporter
from adapters.store import AdapterStore
from adapters.training.runs import RunStore
from backends.contract import BaseFacts
from backends.served import Offer
from comparison.backends import Backends, Connect
from comparison.live import Comparison
from comparison.measure.runs import Runs
from comparison.modes import Catalogue
from comparison.servers import Declared, ServerStore
from errors import CounterpointError
from logbook.logbook import Logbook
from personas.store import PersonaStore
from tests.ui.scripted import ScriptedBackend, no_instruments
from ui.parts import Parts

ROOT = Path(__file__).parents[2]


class ScriptedServer(ScriptedBackend):
    """Has told nothing until `offer` is asked, or until `own` is set."""

    def __init__(self, declared: Declared) -> None:
        super().__init__(lambda requests: iter(()))
        self.name = declared.name
        self.declared = declared
        self.own = ()
        self.has: tuple[str, ...] = ()
        self.left_out = 0
        self.problem: CounterpointError | None = None
        self.loaded: list[tuple[str, str]] = []
        self.open = True

    def offer(self, fresh: bool = False) -> Offer:
        if self.problem:
            raise self.problem
        self.own = self.has
        return Offer(
            self.name, "org/base", "org/base", {name: name for name in self.has}, None, self.left_out
        )

    def load_adapter(self, name: str, folder: str) -> None:
        if self.problem:
            raise self.problem
        self.loaded.append((name, folder))
        self.has = (*self.has, name)

    def close(self) -> None:
        self.open = False


def parts_on(data: Path, main: ScriptedBackend, connect: Connect = ScriptedServer, **servers: str) -> Parts:
    """The page's parts with a real store that declares these servers, name to address."""
    store = ServerStore(data)
    for name, url in servers.items():
        store.save(Declared(name=name, url=url))
    facts = BaseFacts("some/base", data, "ab" * 32, ("en",), {})
    personas = PersonaStore(ROOT / "personas" / "library", data)
    adapters = AdapterStore(data / "none", data, lambda: facts)
    catalogue = Catalogue(personas, adapters, Backends(main, store, connect))
    runs, exporter = RunStore(data, ["false"]), Exporter(["false"])
    comparison = Comparison(catalogue)
    measurements = Runs(data, comparison, no_instruments)
    return Parts(personas, adapters, catalogue, comparison, runs, exporter, Logbook(data), measurements)


def server(parts: Parts, name: str = "gpu") -> ScriptedServer:
    found = parts.backends.get(name)
    assert isinstance(found, ScriptedServer)
    return found
