"""The backends that can answer: the main one, and whatever servers are declared beside it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from backends.contract import Backend
from backends.openai_server import OpenAIServer
from backends.server_client import Server
from comparison.servers import FILE, Declared, ServerStore
from errors import CounterpointError

Connect = Callable[[Declared], Backend]


def connect(declared: Declared) -> Backend:
    """A declared server, with its key from the environment."""
    server = Server(
        declared.name,
        declared.url,
        declared.model,
        declared.adapters,
        declared.extended,
        key_env=declared.key_env,
        **({} if declared.silence_s is None else {"silence_s": declared.silence_s}),
    )
    # A key that was read from a file ends in its line's end.
    key = os.environ.get(declared.key_env, "").strip() if declared.key_env else ""
    return OpenAIServer(server, key or None)


class Backends:
    """The main backend and the declared servers, by name. Safe for threads."""

    def __init__(
        self, main: Backend | None = None, store: ServerStore | None = None, connect: Connect = connect
    ):
        """Without a main one this only tells which modes there are.

        A file of servers that cannot be read keeps nobody from the rest: `problem` then says what is wrong.
        """
        self.main = main
        self.store = store
        self.problem = ""
        self._connect = connect
        self._lock = threading.Lock()
        self._servers: dict[str, tuple[Declared, Backend]] = {}
        with suppress(CounterpointError):
            self.refresh()

    @property
    def others(self) -> tuple[str, ...]:
        """The names of all but the main one, in the order in which they are declared."""
        return tuple(self._servers)

    @property
    def all(self) -> tuple[Backend, ...]:
        """Every backend, the main one first."""
        servers = tuple(backend for _, backend in self._servers.values())
        return servers if self.main is None else (self.main, *servers)

    def get(self, name: str | None) -> Backend:
        """The main one for None. Raises CounterpointError for a name that is not declared."""
        if name is None and self.main is not None:
            return self.main
        try:
            return self._servers[name or ""][1]
        except KeyError:
            known = ", ".join(self._servers) or "none"
            mend = self.problem or f"Declare it in the tab Servers, or in {FILE}."
            raise CounterpointError(f"There is no server {name}. There are: {known}. {mend}") from None

    def adapters(self, name: str | None, timeout: float = 0) -> tuple[str, ...] | None:
        """As `Backend.adapters`, of the named one."""
        if name is None and self.main is None:
            return None
        return self.get(name).adapters(timeout)

    def refresh(self) -> None:
        """Takes in what the store declares by now; a server whose declaration stayed goes on as it was.

        Raises CounterpointError where the file cannot be read, and keeps it as `problem`; all stays as it was then.
        """
        try:
            listed = self.store.list() if self.store else ()
        except CounterpointError as error:
            self.problem = str(error)
            raise
        self.problem = ""
        main = self.main.name if self.main else None
        declared: Mapping[str, Declared] = {each.name: each for each in listed if each.name != main}
        with self._lock:
            before = self._servers
            after = {}
            for name, each in declared.items():
                kept = before.get(name)
                after[name] = kept if kept and kept[0] == each else (each, self._connect(each))
            self._servers = after
        for name, (each, backend) in before.items():
            if after.get(name, (None,))[0] != each:
                backend.close()

    def close(self) -> None:
        """Closes all of them."""
        for _, backend in self._servers.values():
            backend.close()
        if self.main is not None:
            self.main.close()
