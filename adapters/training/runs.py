"""Runs that a page starts: each a process of its own, and a folder that tells all about it.

DATA_DIR/runs/NAME/recipe.yaml, train.jsonl, heldout.jsonl    what is trained
DATA_DIR/runs/NAME/events.jsonl, errors.txt                   what `app.py train --json` said
DATA_DIR/runs/NAME/process.json                               which process it is
DATA_DIR/runs/NAME/adapter/                                   what came of it, whole

Nothing of a run lives in the process that started it: closing the browser or ending the app changes nothing, and who
comes later reads the same.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import yaml
from filelock import FileLock

import durable
import processes
from adapters import passport
from adapters.passport import Passport
from adapters.training.data.row import Row, as_lines
from adapters.training.estimate import Estimate
from adapters.training.progress import Examining, Look, Progress, Sample
from adapters.training.recipe import Recipe
from adapters.training.workplace import Workplace
from errors import CounterpointError
from strict_json import show

State = Literal["running", "stopped", "failed", "done"]

STOPPED = "stopped"
"""How the last line of a run begins that somebody stopped."""
RECIPE, TRAIN, HELDOUT = "recipe.yaml", "train.jsonl", "heldout.jsonl"
_EVENTS, _ERRORS, _PROCESS, _ADAPTER = "events.jsonl", "errors.txt", "process.json", "adapter"
_STOPPING = "stopping"
"""There while a run is told to end."""
_NICE = 10
"""Who asks a question while a run goes on is served first."""
_WITHOUT_A_WORD = (
    "it ended without a word, as where the memory is used up: go on with it, or train less at once."
)
_END_S = 60
"""How long a run may take to end when it is told to, which is a step and its checkpoint, before it is killed; the
checkpoints of before are safe either way."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its folder tells of it. `problem` says why it failed, with the mend; `kept_step` is that of the
    checkpoint from which it would go on. `steps` are those told so far, each once, the oldest first; `estimate` what
    it was expected to take, and `testing` how far the test after the last of them is. `beginning` is whether it has
    done nothing yet since it was begun, or gone on with; `stopping` whether it was told to end."""

    name: str
    folder: Path
    state: State
    problem: str | None
    kept_step: int | None
    steps: tuple[Progress, ...]
    passport: Passport | None = None
    estimate: Estimate | None = None
    testing: Examining | None = None
    title: str | None = None
    beginning: bool = False
    stopping: bool = False

    @property
    def adapter(self) -> Path:
        """The folder with what came of it, once it is done."""
        return self.folder / _ADAPTER


class RunStore:
    """All runs of a data folder. `command` starts one: a program and its arguments, up to those of the run."""

    def __init__(self, data_dir: Path, command: Sequence[str]) -> None:
        self._root = data_dir / "runs"
        self._command = list(command)
        self._children: list[subprocess.Popen[bytes]] = []

    def list(self) -> list[Run]:
        """All runs by name."""
        return [self._read(folder) for folder in self._folders()]

    def get(self, name: str) -> Run:
        """The run of this name. Raises CounterpointError that lists what exists for an unknown one."""
        folders = {folder.name: folder for folder in self._folders()}
        if name not in folders:
            there = ", ".join(folders) or "none"
            raise CounterpointError(f"There is no run {show(name)}: choose one of these: {there}.")
        return self._read(folders[name])

    def going_on(self) -> str | None:
        """The name of the run that goes on, if one does. Looks at processes only, so it may be asked every second."""
        unfinished = (folder for folder in self._folders() if not (folder / _ADAPTER).is_dir())
        return next((folder.name for folder in unfinished if _process(folder)), None)

    def start(self, recipe: Recipe, train: Sequence[Row], heldout: Sequence[Row]) -> Run:
        """Writes the run's folder and starts its process. The recipe's own datasets are replaced by these rows.

        Raises CounterpointError where the name is taken, another run goes on, or the disk takes no more.
        """
        with self._alone():
            folder = self._root / recipe.name
            if folder.exists():
                raise CounterpointError(
                    f"There is a run {recipe.name} already: go on with it, delete it, or give another name."
                )
            unfinished = self._root / f".{recipe.name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            try:
                unfinished.mkdir(mode=0o700)
                told = recipe.model_copy(update={"train": Path(TRAIN), "heldout": Path(HELDOUT)})
                text = yaml.safe_dump(told.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
                durable.write(unfinished / RECIPE, text)
                for name, rows in ((TRAIN, train), (HELDOUT, heldout)):
                    durable.write(unfinished / name, as_lines(rows))
                unfinished.rename(folder)
                self._begin(folder)
            except OSError as error:
                raise self._unwritten(error) from None
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        return self.get(recipe.name)

    def resume(self, name: str) -> Run:
        """Starts a stopped or failed run again, from its newest checkpoint that verifies."""
        with self._alone():
            run = self.get(name)
            if run.state == "done":
                raise CounterpointError(f"{name} is trained already.")
            try:
                self._begin(run.folder)
            except OSError as error:
                raise self._unwritten(error) from None
        return self.get(name)

    def stop(self, name: str, at_once: bool = False) -> Run:
        """Ends the process of a run that goes on, and waits for that: after its step, which is kept, or `at_once`."""
        folder = self.get(name).folder
        process = _process(folder)
        if process:
            with suppress(OSError):
                (folder / _STOPPING).touch()
            with suppress(psutil.NoSuchProcess):
                (process.kill if at_once else process.terminate)()
                try:
                    process.wait(_END_S)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait(_END_S)
            # One that had hardly begun says nothing itself.
            with suppress(OSError), (folder / _ERRORS).open("a", encoding="utf-8") as errors:
                errors.write(f"counterpoint: {STOPPED}.\n")
        return self.get(name)

    def delete(self, name: str) -> None:
        """Stops a run, if it goes on, and removes all that it made; what was published of it stays."""
        folder = self.stop(name, at_once=True).folder
        try:
            durable.remove(folder)
        except OSError as error:
            raise CounterpointError(
                f"The run {name} can't be deleted ({error.strerror}): remove {folder}."
            ) from None

    def _folders(self) -> Iterator[Path]:
        """Of all runs, by name; a hidden one is half made or half deleted."""
        found = sorted(self._root.iterdir()) if self._root.is_dir() else ()
        return (folder for folder in found if folder.name[0] != "." and (folder / RECIPE).is_file())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Held while a run is begun: two pages, or two apps on one data folder, begin one after the other.

        Raises CounterpointError where a run goes on already.
        """
        try:
            for folder in (self._root.parent, self._root):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            held = FileLock(self._root / ".lock").acquire()
        except OSError as error:
            raise self._unwritten(error) from None
        with held:
            if busy := self.going_on():
                raise CounterpointError(
                    f"{busy} is being trained: two at once would both be slower than one after the other. "
                    "Wait for it, or stop it."
                )
            yield

    def _begin(self, folder: Path) -> None:
        self._children = [child for child in self._children if child.poll() is None]
        command = [
            *self._command,
            str(folder / RECIPE),
            "--out",
            str(folder / _ADAPTER),
            "--resume",
            "--json",
        ]
        (folder / _ERRORS).unlink(missing_ok=True)
        (folder / _STOPPING).unlink(missing_ok=True)
        kept = Workplace(folder / _ADAPTER).checkpoint()
        begun = {"event": "begun", "kept": kept.step if kept else 0, "title": _title(folder)}
        with (folder / _EVENTS).open("ab") as events:
            events.write(f"\n{json.dumps(begun)}\n".encode())  # a killed process leaves half a line
        with (folder / _EVENTS).open("ab") as events, (folder / _ERRORS).open("ab") as errors:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=events, stderr=errors, start_new_session=True
            )
        self._children.append(child)
        try:
            with suppress(psutil.Error):  # it may have ended already
                durable.write(folder / _PROCESS, json.dumps(processes.told(child.pid)) + "\n")
                process = psutil.Process(child.pid)
                process.nice(max(process.nice(), _NICE))
                # Linux weighs a session as a whole where it groups them: there the process's own says nothing.
                with suppress(OSError):
                    Path(f"/proc/{child.pid}/autogroup").write_text(str(_NICE), encoding="ascii")
        except OSError:  # a run that nobody could find again shall not go on
            child.kill()
            child.wait()
            raise

    def _read(self, folder: Path) -> Run:
        # In this order: a run that ends meanwhile is told as going on, never as failed.
        alive = _process(folder) is not None
        try:
            made = passport.read(folder / _ADAPTER) if (folder / _ADAPTER).is_dir() else None
        except CounterpointError as error:  # what somebody did to one run hides no other
            return Run(folder.name, folder, "failed", str(error), None, ())
        told = _told(folder / _EVENTS)
        if alive:  # also where its result is there: it may yet be published
            return Run(
                folder.name,
                folder,
                "running",
                None,
                None,
                told.steps,
                estimate=told.estimate,
                testing=told.testing,
                title=told.title,
                beginning=told.beginning,
                stopping=(folder / _STOPPING).exists(),
            )
        words = _last_words(folder / _ERRORS)
        if made:
            return Run(folder.name, folder, "done", words, None, told.steps, made, title=made.title)
        kept = Workplace(folder / _ADAPTER).checkpoint()
        step = kept.step if kept else None
        if words and words.startswith(STOPPED):
            return Run(folder.name, folder, "stopped", None, step, told.steps, title=told.title)
        return Run(
            folder.name, folder, "failed", words or _WITHOUT_A_WORD, step, told.steps, title=told.title
        )

    def _unwritten(self, error: OSError) -> CounterpointError:
        why = error.strerror or error
        return CounterpointError(
            f"{self._root} cannot be written ({why}): make room or choose another --data-dir."
        )


def _process(folder: Path) -> psutil.Process | None:
    """The run's process, if it goes on. A number is used again: the time of its beginning tells whose it is."""
    try:
        return processes.find(json.loads((folder / _PROCESS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _title(folder: Path) -> str | None:
    """As the recipe says it."""
    try:
        told = yaml.safe_load((folder / RECIPE).read_text(encoding="utf-8"))
        return str(told["title"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


class _Told(NamedTuple):
    steps: tuple[Progress, ...]
    estimate: Estimate | None
    testing: Examining | None
    title: str | None
    beginning: bool


def _told(events: Path) -> _Told:
    """What a run's events tell. One that was resumed tells again the steps after its checkpoint: the later telling
    holds."""
    steps: list[Progress] = []
    estimate: Estimate | None = None
    testing: Examining | None = None
    title: str | None = None
    beginning = True
    try:
        lines = events.read_bytes().splitlines()
    except OSError:
        lines = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # a killed process leaves half a line
            told = json.loads(line)
            match told.pop("event"):
                case "progress":
                    step = Progress(**told | {"look": _look(told["look"])})
                    while steps and steps[-1].step >= step.step:
                        steps.pop()
                    steps.append(step)
                    beginning = False
                case "begun":
                    while steps and steps[-1].step > told["kept"]:
                        steps.pop()
                    estimate, testing, title, beginning = None, None, told["title"], True
                case "estimate":
                    estimate = Estimate(**told)
                case "testing":
                    testing, beginning = Examining(**told), False
    return _Told(tuple(steps), estimate, testing, title, beginning)


def _look(told: dict[str, Any] | None) -> Look | None:
    if told is None:
        return None
    return Look(told["step"], told["loss"], tuple(Sample(**sample) for sample in told["samples"]))


def _last_words(errors: Path) -> str | None:
    """What a run said of its end, if it said anything."""
    try:
        said = [line for line in errors.read_text(encoding="utf-8", errors="replace").splitlines() if line]
    except OSError:
        return None
    ours = "counterpoint: "
    return said[-1].removeprefix(ours) if said and said[-1].startswith(ours) else None
