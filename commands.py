"""What each command of app.py does. Builds the parts that it needs, and no others."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import logbook_commands as keeping
import measuring_commands as measuring
import tuning_commands as tuning
from assembly import (
    THIS_MACHINE,
    Places,
    build_parts,
    catalogue_of,
    persona_store,
    tell,
    tell_of_servers,
    watch,
)
from backends.contract import Usage
from errors import DONE, FAILED, CounterpointError, WorkFailed

SERVERS_TELL_S = 6.0
"""How long a command waits for what servers have."""


def run(options: argparse.Namespace) -> int:
    """Runs options.command; returns the exit status. Raises CounterpointError for bad input."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "serve": serve,
        "ask": ask,
        "modes": modes,
        "check-adapter": tuning.check_adapter,
        "check-data": tuning.check_data,
        "split-data": tuning.split_data,
        "train": tuning.train,
        "test-adapter": tuning.test_adapter,
        "measure": measuring.measure,
        "report": measuring.report,
        "save-variant": measuring.save_variant,
        "import-persona": import_persona,
        "export-persona": export_persona,
        "export-adapter": tuning.export_adapter,
        "export-logbook": keeping.export_logbook,
        "import-logbook": keeping.import_logbook,
        "export-ratings": keeping.export_ratings,
    }
    from backends.local.fetch import check_name

    _check_engine_options(options)
    if options.command != "export-persona":  # a Modelfile may name any base that Ollama has
        check_name(options.base)
    return commands[options.command](options)


def _check_engine_options(options: argparse.Namespace) -> None:
    for name, choices in (
        ("quantization", ("nf4", "int8", "none")),
        ("dtype", ("auto", "float32", "bfloat16")),
    ):
        value = getattr(options, name)
        if value not in choices:
            raise CounterpointError(f"--{name} {value}: choose {' or '.join(choices)}.")


def serve(options: argparse.Namespace) -> int:
    """Serves the page until it is interrupted."""
    from api import access
    from ui.gatekeeper import public_names

    try:
        port = int(options.port)
    except ValueError:
        port = -1
    if not 0 < port < 65536:
        raise CounterpointError(f"--port {options.port}: give a number from 1 to 65535.")
    _check_host(options.host)
    keys = access.keys(os.environ)
    names = frozenset() if options.public_host is None else public_names(options.public_host)
    if (names or options.host not in THIS_MACHINE) and not keys:
        public = f"--public-host {','.join(sorted(names))}" if names else f"--host {options.host}"
        raise CounterpointError(
            f"{public} is a public address: set {access.VARIABLE} to one or more keys, with commas between them, which "
            "everybody who comes has to show; or leave it out."
        )
    _check_free(options.host, port)
    parts = build_parts(options, Places.from_options(options), tell)
    # Told to end from outside, it ends as it does by Ctrl-C: engine and private files are cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with closing(parts.backends), closing(parts.measurements), closing(parts.logbook):
        _open_logbook(parts.logbook)
        from starlette.middleware import Middleware

        from api.errors import refusal
        from api.routes import Api
        from ui.page import serve as serve_page

        doorkeeper = [Middleware(access.Doorkeeper, keys=keys)] if keys else []
        routes = Api(parts.comparison).routes
        serve_page(parts, options.host, port, options.open, routes, doorkeeper, refusal, names)
    return DONE


def _open_logbook(logbook: Any) -> None:
    """Where it cannot be used now, the page goes on without, and says so with each answer. Raises CounterpointError for
    one of a newer version: nothing is asked that it would not have."""
    try:
        logbook.open()
    except WorkFailed as error:
        tell(str(error))


def _check_host(host: str) -> None:
    """Raises CounterpointError for what is neither an address nor the name of one."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        raise CounterpointError(
            f"--host {host}: there is no such address. Give 127.0.0.1, or one of this machine."
        ) from None


def _check_free(host: str, port: int) -> None:
    """Raises CounterpointError where something else listens already, before anything is loaded."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise CounterpointError(f"--host {host} is no address of this machine.") from None
            raise CounterpointError(
                f"Port {port} is not to be had ({error.strerror}): choose another with --port."
            ) from None


def ask(options: argparse.Namespace) -> int:
    """Asks one question through the modes and prints the answers; exit 1 if any pane failed."""
    from backends.contract import Failed, Sampling
    from comparison.live import Answered, Pane, StepDone
    from comparison.modes import ModeId

    wanted = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    sampling = {name: value for name, value in wanted.items() if value is not None}
    Sampling(**sampling, seed=options.seed or 0)
    places = Places.from_options(options)
    _check_modes(options, places)
    parts = build_parts(options, places)
    with closing(parts.backends):
        if any(ModeId.parse(mode).backend is None for mode in options.mode):
            parts.backend.wait(watch)
        panes = [Pane(mode, sampling=sampling) for mode in options.mode]
        ended: dict[int, Any] = {}
        steps: dict[int, list[StepDone]] = {}
        for event in parts.comparison.ask(options.question, panes, seed=options.seed):
            if isinstance(event.event, StepDone):
                steps.setdefault(event.pane, []).append(event.event)
            elif isinstance(event.event, Answered | Failed):
                ended[event.pane] = event.event
    for number, mode in enumerate(options.mode):
        if not options.json:
            for step in steps.get(number, []):
                _print_text(f"{mode}, step {step.name}", step.answer, step.receipt.usage)
        _print_answer(mode, ended[number], options.json)
    return DONE if all(isinstance(end, Answered) for end in ended.values()) else FAILED


def _check_modes(options: argparse.Namespace, places: Places) -> None:
    """Raises CounterpointError for what cannot be asked, before an engine is started for it."""
    from comparison.live import check_question
    from comparison.modes import ModeId

    modes = [ModeId.parse(mode) for mode in options.mode]
    check_question(options.question, len(modes))
    catalogue = catalogue_of(options, places)
    with closing(catalogue.backends):
        for mode in modes:
            catalogue.check(mode, timeout=SERVERS_TELL_S)


def _print_answer(mode: str, end: Any, as_json: bool) -> None:
    from backends.contract import Failed

    if isinstance(end, Failed):
        print(f"counterpoint: {mode}: {end.message}", file=sys.stderr)
    elif as_json:
        told = {
            "mode": mode,
            "answer": end.answer,
            "finish_reason": end.finish_reason,
            "receipt": end.receipt.as_dict(),
        }
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print_text(mode, end.answer, end.receipt.usage)


def _print_text(title: str, text: str, usage: Usage) -> None:
    speed = f", {usage.tokens_per_s:.0f} tokens/s" if usage.tokens_per_s else ""
    print(f"── {title}  ({usage.completion_tokens} tokens{speed})\n{text.strip()}\n")


def modes(options: argparse.Namespace) -> int:
    """Lists every mode, and why one cannot be used."""
    catalogue = catalogue_of(options, Places.from_options(options))
    with closing(catalogue.backends):
        tell_of_servers(catalogue.backends)
        listed = catalogue.list(timeout=SERVERS_TELL_S)
    for mode in listed:
        if options.json:
            told = {"mode": mode.id, "label": mode.label, "family": mode.family, "backend": mode.backend}
            print(json.dumps({**told, "usable": mode.usable, "note": mode.note}, ensure_ascii=False))
        elif mode.family != "both":
            note = f"  ({mode.note})" if mode.note else ""
            line = f"{mode.id:36} {mode.label}{'' if mode.usable else '  NOT USABLE'}{note}"
            # A title can come from a stranger's card, and what no eye sees can steer a terminal.
            print("".join(sign if sign.isprintable() else "�" for sign in line))
    if not options.json:
        print("adapter:NAME+persona:NAME            any adapter with any persona")
    return DONE


def import_persona(options: argparse.Namespace) -> int:
    """Makes a persona of another program's file; says what became what and what did not come along."""
    from personas.travel.formats import read_file

    arrival = read_file(options.file, options.name)
    persona = persona_store(Places.from_options(options)).add(arrival.persona, options.replace)
    if options.json:
        told = {"name": persona.name, "title": persona.title, "sha256": persona.sha256}
        print(json.dumps({**told, "carried": arrival.carried, "left": arrival.left}, ensure_ascii=False))
    else:
        print(f"persona:{persona.name}")
        _tell_notes(arrival)
    return DONE


def export_persona(options: argparse.Namespace) -> int:
    """Writes a persona as another program's file; says what that has no place for."""
    import durable
    from logbook.logbook import Logbook
    from personas.travel.formats import DATASET, write

    out, adapter = options.out, options.adapter
    if adapter and not os.path.isdir(adapter):
        raise CounterpointError(f"--adapter {adapter}: there is no such folder.")
    if os.path.lexists(out) and not (options.replace and os.path.isfile(out)):
        raise CounterpointError(f"--out {options.out} exists already: name another file, or add --replace.")
    places = Places.from_options(options)
    persona = persona_store(places).get(options.name)
    base = None if options.base == "embedded" else options.base
    if base and os.path.isdir(base):
        base = os.path.abspath(base)
    rated, unfit = (
        Logbook(places.data, tell).ratings.to_train_on(persona.name) if options.to == DATASET else ([], 0)
    )
    parcel = write(persona, options.to, base, os.path.abspath(adapter) if adapter else None, rated, unfit)
    try:
        durable.write_bytes(out, parcel.content)
    except OSError as error:
        raise WorkFailed(
            f"--out {options.out} cannot be written ({error.strerror or error}): name a file in another folder."
        ) from None
    if options.json:
        told = {
            "persona": persona.name,
            "format": options.to,
            "out": str(options.out),
            "carried": parcel.carried,
            "left": parcel.left,
        }
        print(json.dumps(told, ensure_ascii=False))
    else:
        print(options.out)
        _tell_notes(parcel)
    return DONE


def _tell_notes(made: Any) -> None:
    """What became of a persona on its way in or out: an Arrival's notes, or a Parcel's."""
    print("".join(f"  kept         {line}\n" for line in made.carried), end="")
    print("".join(f"  not carried  {line}\n" for line in made.left), end="")
