"""What servers were last seen to offer. A look goes on in a thread of its own, however short who wants it waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Literal

from backends.contract import Backend
from backends.served import Offer
from backends.server_errors import Down
from comparison.backends import Backends
from errors import CounterpointError
from ui.words import say

log = logging.getLogger("counterpoint")

Finding = Offer | CounterpointError


@dataclass(frozen=True, slots=True)
class Seen:
    """How a server stands, as far as it is known; `problem` says why it is down, or answers and is of no use yet."""

    state: Literal["ready", "down", "unusable", "unseen", "looking"]
    offer: Offer | None = None
    problem: str = ""


class Looks:
    """Shared by all who look at the page: one look a server at a time. Safe for threads."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._lock = threading.Lock()
        self._found: dict[str, tuple[Backend, Finding]] = {}
        self._under_way: dict[str, tuple[Backend, Future[None]]] = {}

    def backend(self, name: str) -> Backend:
        """The server of that name, which may be the main backend. Raises CounterpointError where there is none."""
        main = self._backends.main
        return main if main is not None and main.name == name else self._backends.get(name)

    def seen(self, name: str) -> Seen:
        """What is known by now, without waiting."""
        backend = self.backend(name)
        status = backend.status()
        known, found = self._found.get(name, (None, None))
        under_way, look = self._under_way.get(name, (None, None))
        # A server that was declared anew is another one.
        found = found if known is backend else None
        offer = found if isinstance(found, Offer) else None
        if status.state == "failed":
            return Seen("down", offer, status.message)
        if under_way is backend and look is not None and not look.done():
            return Seen("looking", offer)
        if offer is not None:
            return Seen("ready", offer)
        if found is None:
            return Seen("unseen")
        return Seen("down" if isinstance(found, Down) else "unusable", problem=str(found))

    def look(self, names: Iterable[str], timeout: float) -> None:
        """Looks at these servers at once; returns when all have told, or after `timeout` seconds."""
        wait([self._begun(name) for name in names], timeout)

    def _begun(self, name: str) -> Future[None]:
        backend = self.backend(name)
        with self._lock:
            before, look = self._under_way.get(name, (None, None))
            if before is backend and look is not None and not look.done():
                return look
            look = Future()
            self._under_way[name] = (backend, look)
        # Not a pool's thread: one that waits for a silent server would keep the program from ending.
        threading.Thread(target=self._look, args=(name, backend, look), daemon=True).start()
        return look

    def _look(self, name: str, backend: Backend, look: Future[None]) -> None:
        found: Finding
        try:
            found = backend.offer(fresh=True)  # type: ignore[attr-defined]
        except CounterpointError as error:
            found = error
        except Exception as error:
            log.error("the server %s could not be looked at", name, exc_info=error)
            found = CounterpointError(say("unexpected"))
        with self._lock:
            # A later look, at the server as it is declared by now, has the last word.
            if self._under_way.get(name, (None, None))[1] is look:
                self._found[name] = (backend, found)
        look.set_result(None)
