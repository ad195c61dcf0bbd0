"""What the commands of fine-tuning do: the data, the run, the test after it, and adapters as files."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from assembly import ROOT, Places, base_facts, persona_store
from errors import DONE, FAILED, CounterpointError, WorkFailed

if TYPE_CHECKING:
    from adapters.training.progress import Examining
    from adapters.training.recipe import Recipe
    from personas.schema import Persona


def check_adapter(options: argparse.Namespace) -> int:
    """Says what is wrong with an adapter, or what it is; exit 1 if it cannot be used."""
    from adapters.inspection import as_dict, describe, gated
    from adapters.validator import inspect

    if not options.folder.is_dir():
        what = (
            "this is a file: give the folder that holds it"
            if options.folder.exists()
            else "there is no such folder"
        )
        raise CounterpointError(f"{options.folder}: {what}.")
    facts = base_facts(options, Places.from_options(options))
    inspection = gated(inspect(options.folder, facts, override_base=options.override_base), accepted=False)
    if options.json:
        print(json.dumps(as_dict(inspection), ensure_ascii=False))
    else:
        print("\n".join(describe(inspection)))
    for problem in inspection.problems:
        print(f"counterpoint: {options.folder}: {problem}", file=sys.stderr)
    return DONE if inspection.usable else FAILED


def check_data(options: argparse.Namespace) -> int:
    """Says what a dataset is and what is wrong with it; exit 1 if training would refuse it."""
    from adapters.training.data.check import check
    from adapters.training.data.describe import as_dict, describe
    from adapters.training.data.preview import first as first_rows
    from adapters.training.data.source import NotText, opened
    from adapters.training.prepare import MOST_TOKENS
    from backends import pretrained
    from comparison.checks.check import wrong_with

    if options.max_length is not None and options.max_length < 1:
        raise CounterpointError(f"--max-length {options.max_length}: give a number of tokens, 1 or more.")
    for path in filter(None, (options.file, options.heldout)):
        with suppress(NotText), opened(path):
            pass  # a file that cannot be read is told before a base is fetched
    folder = base_facts(options, Places.from_options(options)).folder
    context = pretrained.context_of(folder) or MOST_TOKENS
    tokenizer = pretrained.tokenizer(folder)
    # The rows stay until the end: to search them for garbage as they grow would be an eighth of the time.
    gc.disable()
    report = check(options.file, tokenizer, context, options.heldout, options.max_length, wrong_with)
    if options.json:
        rows = first_rows(report.data.reading.entries, tokenizer, report.max_length)
        shown = [{"line": line, "spans": [span._asdict() for span in spans]} for line, spans in rows]
        print(json.dumps({**as_dict(report), "first_rows": shown}, ensure_ascii=False))
    else:
        print("\n".join(describe(report)))
    if not report.problems:
        return DONE
    count = sum(found.count for found in report.problems)
    first = report.problems[0]
    print(
        f"counterpoint: {options.file}: {count:,} {'problem' if count == 1 else 'problems'}, "
        f"first {first.first[0].text}: {first.mend}.",
        file=sys.stderr,
    )
    return FAILED


def split_data(options: argparse.Namespace) -> int:
    """Writes a file's rows as two datasets, one to train on and one held out."""
    import durable
    from adapters.training.data import reader
    from adapters.training.data.row import as_lines
    from adapters.training.data.split import split
    from adapters.training.prepare import heldout_share

    paths = [options.out / name for name in ("train.jsonl", "heldout.jsonl")]
    if there := [path for path in paths if path.exists()]:
        raise CounterpointError(f"{there[0]} exists already: name another folder for --out, or remove it.")
    reading = reader.read(options.file)
    if problems := reading.findings.problems:
        count = sum(found.count for found in problems)
        raise CounterpointError(
            f"{options.file}: {count:,} {'problem' if count == 1 else 'problems'}, first {problems[0].first[0].text}: "
            f"mend them; check-data {options.file} tells them all."
        )
    rows = reading.rows
    share = heldout_share(len(rows)) if options.share is None else options.share
    sides = [[rows[place] for place in places] for places in split(rows, share, options.seed)]
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for path, side in zip(paths, sides, strict=True):
            durable.write(path, as_lines(side))
    except OSError as error:
        raise WorkFailed(
            f"--out {options.out} cannot be written ({error.strerror or error}): name another folder."
        ) from None
    made = {
        path.stem: {"path": str(path), "rows": len(side)} for path, side in zip(paths, sides, strict=True)
    }
    if options.json:
        print(json.dumps({**made, "seed": options.seed}, ensure_ascii=False))
    else:
        print("\n".join(f"{each['path']}: {each['rows']:,} rows" for each in made.values()))
    return DONE


def train(options: argparse.Namespace) -> int:
    """Trains and tests an adapter; what it will take, progress and the verdict on stderr, or one JSON object each on
    stdout. Exit 1 where it did not pass."""
    from adapters.training.recipe import read as read_recipe

    places = Places.from_options(options)
    recipe = read_recipe(options.recipe)  # before what takes seconds to import
    from adapters.store import AdapterStore
    from adapters.training import dataset
    from adapters.training.estimate import Estimate
    from adapters.training.progress import Progress, curve
    from adapters.training.recipe import dataset_path
    from adapters.training.run import Trained
    from adapters.training.run import train as run_training
    from adapters.training.stopping import Stopping
    from adapters.training.workplace import Workplace
    from adapters.verdict import Gate
    from comparison.gate import tell as words
    from comparison.gate.gate import examine, refuse

    # Told to end, by Ctrl-C or from outside, it keeps the step under way and says from where it can go on.
    stopping = Stopping()
    for told_to_end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told_to_end, stopping.hear)
    persona = _counterpart(recipe, places)
    facts = base_facts(options, places)
    store = None
    if options.publish:
        store = AdapterStore(ROOT / "adapters" / "library", places.data, lambda: facts)
        store.refuse_taken(recipe.name)
    refuse(persona, dataset.read(dataset_path(options.recipe, recipe.heldout)), facts)

    def say(event: str, told: Any, line: str) -> None:
        if options.json:
            _print(json.dumps({"event": event, **dataclasses.asdict(told)}), sys.stdout)
        else:
            _print(line, sys.stderr)

    losses: list[float] = []
    looks: list[float] = []

    def report(progress: Progress) -> None:
        losses.append(progress.loss)
        step = f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f} {curve(losses)}"
        speed = f"rate {progress.learning_rate:.1e}  {progress.tokens_per_s:.0f} tokens/s"
        lines = [f"{step}  {speed}  {progress.seconds_left / 60:.1f} min left"]
        if progress.look:
            looks.append(progress.look.loss)
            lines.append(f"  held-out loss {progress.look.loss:.3f} {curve(looks)}")
            lines += [f"  {sample.question!r}: {sample.answer!r}" for sample in progress.look.samples]
        say("progress", progress, "\n".join(lines))

    def announce(estimate: Estimate) -> None:
        say("estimate", estimate, str(estimate))

    def test(trained: Trained) -> Gate:
        part = "its beginning"

        def tell(progress: Examining) -> None:
            nonlocal part
            part = progress.part
            _testing(progress, options.json)

        try:
            return examine(trained, facts, places.cache, persona, tell)
        except CounterpointError as error:
            why = str(error)
        except (MemoryError, RuntimeError):  # the memory may be used up, which is told elsewhere
            raise
        except Exception as error:  # a mistake of ours: what was trained is kept, for a mended test
            traceback.print_exc()
            why = f"{part} failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
        raise WorkFailed(f"it could not be tested: {why} {Workplace(options.out).what_is_kept()}")

    try:
        passport = run_training(
            options.recipe, options.out, facts, options.resume, report, announce, test, stopping
        )
    except KeyboardInterrupt:
        raise WorkFailed(f"stopped. {Workplace(options.out).what_is_kept()}") from None
    gate = passport.gate
    assert gate is not None
    if options.json:
        told = {"event": "done", "out": str(options.out), "passport": passport.model_dump(mode="json")}
        _print(json.dumps(told), sys.stdout)
    else:
        _print(f"{options.out}: held-out loss {passport.training.heldout_loss:.3f}", sys.stdout)
        _print("\n".join(words.lines(gate)), sys.stdout)
    if store and gate.passed:
        store.import_folder(options.out, passport.name)
    return DONE if gate.passed else FAILED


def test_adapter(options: argparse.Namespace) -> int:
    """Tests an adapter again that was trained before, by the marks that its recipe has now, and notes the result in its
    passport. Exit 1 where it did not pass."""
    places = Places.from_options(options)
    folder, recipe_path = _to_test(options, places)
    from adapters import passport as passports
    from adapters.training.run import loaded
    from comparison.gate import tell as words
    from comparison.gate.gate import examine, refuse

    facts = base_facts(options, places)
    trained = loaded(folder, facts, recipe_path)
    persona = _counterpart(trained.recipe, places)
    refuse(persona, trained.heldout, facts)
    gate = examine(trained, facts, places.cache, persona, lambda progress: _testing(progress, options.json))
    passport = passports.read(folder)
    assert passport is not None
    recipe = passport.recipe.model_copy(update={"gate": trained.recipe.gate})
    passports.write(folder, passport.model_copy(update={"gate": gate, "recipe": recipe}))
    if options.json:
        print(json.dumps({"event": "done", "gate": gate.model_dump(mode="json")}))
    else:
        print("\n".join(words.lines(gate)))
    return DONE if gate.passed else FAILED


def _to_test(options: argparse.Namespace, places: Places) -> tuple[Path, Path | None]:
    """The adapter's folder, which may be given by the adapter's name, and its recipe: the one that is given, the one in
    there, or that of the run that it came of."""
    folder = options.folder
    if not folder.is_dir():
        named = [parent / folder for parent in (places.data / "adapters", ROOT / "adapters" / "library")]
        found = next((each for each in named if len(folder.parts) == 1 and each.is_dir()), None)
        if found is None:
            raise CounterpointError(f"{folder}: there is no such folder, and no adapter of that name.")
        folder = found
    if options.recipe is not None and not options.recipe.is_file():
        raise CounterpointError(f"--recipe {options.recipe}: there is no such file.")
    beside = [
        folder / "recipe.yaml",
        folder.parent / "recipe.yaml",
        places.data / "runs" / folder.name / "recipe.yaml",
    ]
    return folder, options.recipe or next((each for each in beside if each.is_file()), None)


def _counterpart(recipe: Recipe, places: Places) -> Persona | None:
    """The persona that an adapter is measured beside, if the recipe names one."""
    return persona_store(places).get(recipe.gate.persona) if recipe.gate.persona else None


def _testing(progress: Examining, as_json: bool) -> None:
    if as_json:
        _print(json.dumps({"event": "testing", **dataclasses.asdict(progress)}), sys.stdout)
    else:
        left = "" if progress.seconds_left is None else f"  {progress.seconds_left / 60:.1f} min left"
        _print(f"testing {progress.done + 1}/{progress.parts}: {progress.part}{left}", sys.stderr)


def _print(line: str, stream: TextIO) -> None:
    """Tells how work goes on. Where that cannot be written, on a full disk or a terminal that is gone, the work goes on
    all the same: what it makes lies elsewhere."""
    with suppress(OSError):
        try:
            descriptor = stream.fileno()
        except ValueError:  # no file behind it, so none that is full
            print(line, file=stream, flush=True)
        else:
            # Past the stream's buffer: what stayed in there would fail again wherever somebody flushes it, as
            # multiprocessing does before it starts the engine.
            os.write(descriptor, f"{line}\n".encode())


def export_adapter(options: argparse.Namespace) -> int:
    """Writes an adapter as a folder for other programs; says what of a persona did not come along."""
    from adapters import export
    from adapters.store import AdapterStore

    export.check(options.to, options.out, with_persona=bool(options.persona))
    places = Places.from_options(options)
    persona = persona_store(places).get(options.persona) if options.persona else None
    base = base_facts(options, places)
    adapters = AdapterStore(ROOT / "adapters" / "library", places.data, lambda: base)
    adapters.source(options.name)  # raises where it is unknown or cannot be used
    found = adapters.get(options.name).inspection
    left: tuple[str, ...] = ()
    if options.to == "peft":
        export.to_peft(found, base, options.out)
    elif options.to == "merged":
        export.to_merged(found, base, options.out, options.dtype)
    else:
        from backends.local.fetch import EMBEDDED
        from personas.travel import modelfile

        # A base that Ollama has no name of its own for is one by its folder.
        ours = options.base in ("embedded", EMBEDDED.id)
        named = modelfile.DEFAULT_BASE if ours else os.path.abspath(base.folder)
        sampling = found.passport.sampling.model_dump() if found.passport else {}
        parcel = modelfile.with_adapter(found.name, persona, named, f"./{export.ADAPTER}", sampling)
        export.to_ollama(found, base, options.out, parcel.content)
        left = parcel.left
    if options.json:
        told = {"adapter": found.name, "format": options.to, "out": str(options.out), "left": left}
        print(json.dumps(told, ensure_ascii=False))
    else:
        print(options.out)
        print("".join(f"  not carried  {line}\n" for line in left), end="")
    return DONE
