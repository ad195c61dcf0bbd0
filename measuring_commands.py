"""What the commands of measuring do: a suite's run, and its report again."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assembly import Places, build_parts, catalogue_of, persona_store, watch
from errors import DONE, FAILED, CounterpointError, WorkFailed

if TYPE_CHECKING:
    from comparison.measure.folder import RunFolder
    from comparison.measure.plan import Plan, Prices, Slot
    from comparison.measure.results import Results
    from comparison.measure.runner import Progress

SERVERS_TELL_S = 6.0
"""How long a command waits for what servers have."""


def measure(options: argparse.Namespace) -> int:
    """Measures modes by a suite and writes the report; exit 1 where a mark of the suite is missed."""
    from comparison.measure import prepare
    from comparison.measure.folder import RunFolder
    from comparison.measure.instruments import Instruments
    from comparison.measure.prepare import Wanted
    from comparison.measure.runner import Runner, Stopped
    from comparison.modes import ModeId

    places = Places.from_options(options)
    suites, left = prepare.suites(prepare.find(options.suite))
    for line in left:
        print(f"counterpoint: {options.suite}: not taken over: {line}", file=sys.stderr)
    if options.resume:
        folder = RunFolder(options.out)
        plan = folder.plan()
        _same(plan, suites[0].sha256, options)
    else:
        given = {name: getattr(options, name) for name in ("seed", "alone")}
        numbers = {name: value for name, value in given.items() if value is not None}
        wanted = Wanted(prices=_prices(options), python=options.python, **numbers)
        plan = prepare.of_slots(suites, _slots(options, places), wanted)
        for line in _missed_already(plan):
            print(f"counterpoint: {options.suite}: {line}", file=sys.stderr)
        folder = RunFolder.begin(options.out, plan)
    instruments = Instruments(places.cache)
    instruments.load(plan, _fetching())
    parts = build_parts(options, places)
    with closing(parts.backends):
        if any(ModeId.parse(slot.mode).backend is None for slot in plan.slots):
            parts.backend.wait(watch)
        instruments.catalogue = parts.comparison.catalogue
        runner = Runner(
            folder, parts.comparison, instruments.tools(plan), _teller(options.json), instruments.check_data
        )
        # Told to end, by Ctrl-C or from outside, it leaves what is under way and says how to go on.
        for told_to_end in (signal.SIGINT, signal.SIGTERM):
            signal.signal(told_to_end, lambda number, frame: runner.stop())
        try:
            runner.run()
        except Stopped:
            raise WorkFailed(f"stopped: the same command with --resume goes on with {options.out}.") from None
        except WorkFailed as error:
            raise WorkFailed(f"{error} The same command with --resume goes on with {options.out}.") from None
        return _report(folder, instruments, options.json)


def _slots(options: argparse.Namespace, places: Places) -> list[Slot]:
    """The modes, and the variants of a persona if there are any."""
    from comparison.measure import prepare, variants
    from comparison.modes import ModeId

    catalogue = catalogue_of(options, places)
    with closing(catalogue.backends):
        if options.variants is None:
            return prepare.slots(options.mode or [], catalogue, SERVERS_TELL_S)
        grid = variants.read_grid(options.variants)
        mode = ModeId(grid.adapter, grid.persona)
        catalogue.check(mode, SERVERS_TELL_S)
        varied = variants.slots(catalogue.personas.get(grid.persona), grid)
        beside = prepare.slots(options.mode, catalogue, SERVERS_TELL_S) if options.mode else []
        return [*varied, *beside]


def save_variant(options: argparse.Namespace) -> int:
    """Saves the best variant of a measurement, or the one that is named, as a persona."""
    from comparison.measure import variants
    from comparison.measure.folder import RunFolder
    from comparison.measure.instruments import Instruments

    places = Places.from_options(options)
    folder = RunFolder(options.folder)
    plan = folder.plan()
    slot = options.variant
    if slot is None:
        [(slot, _), *_] = variants.ranked(Instruments(places.cache).results(folder), plan)
    persona = persona_store(places).add(variants.winner(plan, slot, options.name), options.replace)
    if options.json:
        print(
            json.dumps(
                {"persona": persona.name, "sha256": persona.sha256, "variant": slot}, ensure_ascii=False
            )
        )
    else:
        print(f"persona:{persona.name}\n  from {slot}")
    return DONE


def report(options: argparse.Namespace) -> int:
    """Writes a measurement's report again, from what is in its folder; exit 1 where a mark of the suite is missed."""
    from comparison.measure.folder import RunFolder
    from comparison.measure.instruments import Instruments

    places = Places.from_options(options)
    return _report(RunFolder(options.folder), Instruments(places.cache), options.json)


def _report(folder: RunFolder, instruments: Any, as_json: bool) -> int:
    from comparison.measure.report.files import write

    found = instruments.results(folder)
    written = write(folder, found)
    if as_json:
        print(json.dumps(_told(found, written), ensure_ascii=False))
    else:
        print("\n".join(_lines(found)))
        print("\n".join(map(str, written)))
    missed = [one for one in found.held if not one.met]
    for one in missed:
        share = "nothing was measured" if one.share is None else f"{one.share.value:.1%}"
        share += f", {one.ungraded} answers not graded" if one.ungraded else ""
        of = f" of {one.metric}" if one.metric else ""
        print(
            f"counterpoint: {one.mode} misses its mark{of}: {share}, at least {one.at_least:.1%}",
            file=sys.stderr,
        )
    return FAILED if missed or not found.complete else DONE


def _lines(found: Results) -> list[str]:
    """The figures that decide, and the advice, for a terminal."""
    from comparison.measure.words import between, counted, figure

    lines = [f"{found.title}: {counted(found.questions, 'question')}, {counted(len(found.modes), 'mode')}"]
    for row in found.rows:
        if row.part_of is not None:
            continue  # the report has it
        lines.append(f"\n{row.aspect}: {row.title}")
        width = max(map(len, row.figures))
        lines += [
            f"  {slot:{width}}  {figure(one, row.unit, found.currency)}" for slot, one in row.figures.items()
        ]
        lines += [f"  {between(row, apart, found.currency)}" for apart in row.gaps]
    lines += [
        f"\n{counted(count, 'answer')} could not be graded: {why}" for why, count in found.ungraded.items()
    ]
    if found.advice:
        lines.append("")
        for sentence in found.advice.sentences:
            lines.append(sentence.text)
            if sentence.changes:
                lines.append(f"  What would change it: {sentence.changes}")
    return [*lines, ""]


def _told(found: Results, written: list[Path]) -> dict[str, Any]:
    return {
        "event": "measured",
        "files": [str(path) for path in written],
        "complete": found.complete,
        "held": [one.model_dump(mode="json") for one in found.held],
        "advice": found.advice.model_dump(mode="json") if found.advice else None,
        "rows": [row.model_dump(mode="json") for row in found.rows],
    }


def _teller(as_json: bool) -> Any:
    """Says how far the run is: each answer as JSON, or a line in the terminal each time a twentieth more is done."""
    last: list[tuple[str, int]] = []

    def tell(progress: Progress) -> None:
        if as_json:
            print(json.dumps({"event": "progress", **dataclasses.asdict(progress)}), flush=True)
            return
        place = (progress.phase, progress.done * 20 // max(1, progress.total))
        if last and last[0] == place:
            return
        last[:] = [place]
        left = "" if progress.seconds_left is None else f", {progress.seconds_left / 60:.1f} min left"
        print(
            f"{_PHASES[progress.phase]}: {progress.done} of {progress.total}{left}",
            file=sys.stderr,
            flush=True,
        )

    return tell


_PHASES = {"alone": "timing answers one by one", "answers": "asking, many at once", "grading": "grading"}


def _fetching() -> Callable[[float, str], None]:
    """Says what is fetched, once for each thing."""
    told: set[str] = set()

    def tell(share: float, what: str) -> None:
        if what not in told:
            told.add(what)
            print(what, file=sys.stderr, flush=True)

    return tell


def _prices(options: argparse.Namespace) -> Prices:
    from pydantic import ValidationError

    from comparison.measure.plan import Prices
    from strict_yaml import joined, sentences

    try:
        return Prices(
            currency="$" if options.currency is None else options.currency,
            machine_hour=options.machine_hour_price,
            prompt_million=options.prompt_price,
            completion_million=options.completion_price,
            training=options.training_price,
        )
    except ValidationError as error:
        raise CounterpointError(f"the prices: {joined(sentences(error))}.") from None


def _missed_already(plan: Plan) -> list[str]:
    """Marks that no answer can meet, since their modes are not measured."""
    measured = {slot.mode for slot in plan.slots}
    return [
        f"it requires a mark of {required.mode}, which is not measured: that mark will be missed"
        for suite in plan.suites
        for required in suite.require
        if required.mode not in measured
    ]


def _same(plan: Plan, sha256: str, options: argparse.Namespace) -> None:
    """Raises CounterpointError where what is to go on is another suite, or other modes."""
    if plan.suite.sha256 != sha256:
        raise CounterpointError(
            f"{options.out} was begun with another {plan.suite.name} than {options.suite} is now: measure anew into "
            "another folder."
        )
    modes = [
        slot.mode for slot in plan.slots if slot.persona is None
    ]  # variants are told apart by another option
    if options.mode and options.mode != modes:
        raise CounterpointError(
            f"{options.out} was begun with {', '.join(modes)}: leave --mode out to go on with it."
        )
    prices = (
        options.machine_hour_price,
        options.prompt_price,
        options.completion_price,
        options.training_price,
    )
    others = {
        "--seed": options.seed not in (None, plan.seed),
        "--alone": options.alone not in (None, plan.alone),
        "--python": options.python and not plan.python,
        "other prices": any(one is not None for one in (*prices, options.currency))
        and _prices(options) != plan.prices,
    }
    if given := [name for name, is_another in others.items() if is_another]:
        raise CounterpointError(
            f"{options.out} was begun otherwise ({', '.join(given)}): leave that out to go on with it, or measure anew "
            "into another folder."
        )
