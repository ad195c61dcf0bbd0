"""The process that owns the model: loads it, then runs the engine in one loop until the other side goes away."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from backends.contract import Status
from backends.local.engine import PROBE, Engine
from backends.local.protocol import Call, Options, Quit, Stop, Submit
from errors import CounterpointError, WorkFailed


def main(options: Options, connection: Connection) -> None:
    """The process: fetches and loads the base, then loops until the other side goes away."""

    def send(messages: list[Any]) -> None:
        connection.send(messages)

    def report(share: float, what: str) -> None:
        send([Status("loading", what, share)])
        # Before it is ready nothing is asked of it: what comes are stops of what never arrived, and the end.
        while connection.poll():
            receive()

    def receive() -> Submit | Stop | Call:
        message: Submit | Stop | Call | Quit = connection.recv()
        if isinstance(message, Quit):
            raise EOFError
        return message

    try:
        try:
            engine = _start(options, send, report)
        except CounterpointError as error:
            send([Status("failed", str(error), input_at_fault=not isinstance(error, WorkFailed))])
            return
        send([engine.facts, Status("ready", f"{engine.facts.id}, {options.quantization}")])
        while True:
            engine.flush()
            if not engine.busy:
                engine.take(receive())
            while connection.poll():
                engine.take(receive())
            if engine.busy:
                engine.step()
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return


def _start(
    options: Options, send: Callable[[list[Any]], None], report: Callable[[float, str], None]
) -> Engine:
    from backends.local.fetch import locate

    facts = locate(options.base, options.cache, lambda share, what: report(0.6 * share, what))
    # Adapters can be checked against the base as soon as it is known, while its weights still load.
    send([facts])
    report(0.6, "Starting the engine")
    from backends.local.base_model import load
    from backends.local.decode import Decoder

    base = load(
        facts.folder,
        options.quantization,
        options.dtype,
        lambda share, what: report(0.6 + 0.35 * share, what),
    )
    report(0.95, "Warming up")
    decoder = Decoder(base, options.store_bytes)
    decoder.warm_up(base.tokenizer(PROBE)["input_ids"])
    return Engine(facts, decoder, send)
