"""Builds what a command needs from its options: the parts around a starting engine, or the modes without one."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from errors import CounterpointError

ROOT = Path(__file__).parent
KEY_VARIABLE = "COUNTERPOINT_BACKEND_KEY"
"""Where the key of the server lies that --backend gives by its address."""
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie. `data` is what a person makes, `cache` what can be fetched again."""

    data: Path
    cache: Path

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> Places:
        """Raises CounterpointError where the data folder cannot be used."""
        from platformdirs import user_data_path

        from backends.local.fetch import cache_folder

        named = options.data_dir
        try:
            data = Path(named).expanduser() if named else user_data_path("counterpoint")
        except RuntimeError:
            raise CounterpointError(f"--data-dir {named}: there is no such user. Give a folder.") from None
        try:
            # One that was there already is its owner's to open or close; what we put into it is closed anyhow.
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise CounterpointError(
                f"The data folder {data} cannot be made ({error.strerror}): name another with --data-dir."
            ) from None
        return cls(data, cache_folder())


def persona_store(places: Places) -> Any:
    from personas.store import PersonaStore

    return PersonaStore(ROOT / "personas" / "library", places.data)


def build_parts(
    options: argparse.Namespace, places: Places, announce: Callable[[str], None] = lambda why: None
) -> Any:
    """The parts that the page and the command line share, around a local engine that is starting, or around a
    server in its place.

    `announce` is told why the engine is given up, if it is.
    """
    from adapters.packing import Exporter
    from adapters.store import AdapterStore
    from adapters.training.runs import RunStore
    from api import access
    from backends.local.backend import LocalBackend
    from backends.local.protocol import Options
    from comparison.backends import Backends
    from comparison.live import Comparison
    from comparison.measure.runs import Runs
    from comparison.modes import Catalogue
    from comparison.servers import ServerStore
    from logbook.logbook import Logbook
    from ui.parts import Parts

    servers = ServerStore(places.data)
    main = _server(options, servers)
    personas = persona_store(places)
    if main is None:
        adapters = AdapterStore(ROOT / "adapters" / "library", places.data, lambda: local.facts(timeout=0))
        main = local = LocalBackend(
            Options(options.base, options.quantization, options.dtype, places.cache),
            adapters.source,
            announce,
        )
    else:
        adapters = AdapterStore(ROOT / "adapters" / "library", places.data, _no_base)
    catalogue = Catalogue(personas, adapters, Backends(main, servers))
    tell_of_servers(catalogue.backends)
    public = getattr(options, "host", THIS_MACHINE[0]) not in THIS_MACHINE or access.are_set(os.environ)
    comparison = Comparison(catalogue)

    def instruments() -> Any:
        from comparison.measure.instruments import Instruments  # takes seconds

        return Instruments(places.cache, catalogue)

    return Parts(
        personas,
        adapters,
        catalogue,
        comparison,
        RunStore(places.data, _command(options, places, "train", "--publish")),
        Exporter(_command(options, places, "export-adapter")),
        Logbook(places.data, tell),
        Runs(places.data, comparison, instruments),
        quantization="nf4" if options.quantization == "nf4" else "none",
        public=public,
    )


def _command(options: argparse.Namespace, places: Places, *command: str) -> list[str]:
    """How the page starts what needs a process of its own: as a person would, on the base that the page has."""
    own = ["--base", options.base, "--data-dir", str(places.data)]
    return [sys.executable, str(ROOT / "app.py"), *command, *own]


def tell_of_servers(backends: Any) -> None:
    """What is wrong with the file of servers, if anything is: it keeps nobody from the rest."""
    if backends.problem:
        tell(f"no server is declared until this is mended: {backends.problem}")


def _server(options: argparse.Namespace, servers: Any) -> Any:
    """The server that --backend names or declares, as a backend; None for the local engine."""
    from comparison.backends import connect
    from comparison.servers import LOCAL, MAIN, Declared

    wanted = options.backend
    if wanted == LOCAL:
        return None
    declared = () if "://" in wanted else servers.list()
    for each in declared:
        if each.name == wanted:
            return connect(each)
    try:
        return connect(Declared(name=MAIN, url=wanted, key_env=KEY_VARIABLE))
    except ValueError:
        names = ", ".join([LOCAL, *(each.name for each in declared)])
        raise CounterpointError(
            f"--backend {wanted}: give an address such as http://127.0.0.1:8000/v1, or one of {names}."
        ) from None


def _no_base() -> Any:
    raise CounterpointError("A server answers here: adapters of this machine need --backend local.")


def catalogue_of(options: argparse.Namespace, places: Places) -> Any:
    """The modes for a base that is located, and fetched if need be, without an engine."""
    from adapters.store import AdapterStore
    from comparison.backends import Backends
    from comparison.modes import Catalogue
    from comparison.servers import ServerStore

    servers = ServerStore(places.data)
    main = _server(options, servers)
    # The base is located when an adapter of this machine is asked for: a server's modes need none.
    facts = _no_base if main is not None else functools.cache(partial(base_facts, options, places))
    adapters = AdapterStore(ROOT / "adapters" / "library", places.data, facts)
    personas = persona_store(places)
    return Catalogue(personas, adapters, Backends(main, servers))


def base_facts(options: argparse.Namespace, places: Places) -> Any:
    """The base's facts without starting an engine; fetches it if need be, telling so on stderr."""
    from backends.local.fetch import locate

    return locate(options.base, places.cache, _progress)


def tell(why: str) -> None:
    print(f"counterpoint: {why}", file=sys.stderr, flush=True)


def _progress(share: float, what: str) -> None:
    if sys.stderr.isatty():
        end = "\n" if share >= 1 else ""
        print(f"\r\033[K{what} … {share:4.0%}", end=end, file=sys.stderr, flush=True)


def watch(status: Any) -> None:
    """Shows on a terminal how far the base is, and clears the line in the end."""
    if status.state == "loading":
        _progress(status.progress or 0.0, status.message)
    elif sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
