"""Where a run keeps its state: a folder beside the target. A crash loses nothing and shows nothing half-made.

.NAME.training/job.json           what is being trained; a run is only resumed as the same job
.NAME.training/decided.json       what the machine decided at its beginning, and holds for all of it
.NAME.training/checkpoint-N/      written by the trainer, trusted once manifest.json is in it
.NAME.training/result/            the adapter, renamed to the target when it is complete
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from safetensors import SafetensorError

import durable
from errors import CounterpointError, WorkFailed

MANIFEST = "manifest.json"


class Checkpoint(NamedTuple):
    """A state of the run after `step` optimizer steps, with what was noted when it was sealed."""

    folder: Path
    step: int
    notes: dict[str, Any]


class Workplace:
    """The working folder of the adapter that will be `out`."""

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self.folder = self.out.parent / f".{self.out.name}.training"
        self.result = self.folder / "result"

    @contextmanager
    def opened(self, job: dict[str, Any], resume: bool) -> Iterator[None]:
        """Holds the folder for this process; what an earlier run left is gone on with only if `resume` says so.

        Raises CounterpointError if `out` exists, another run holds the folder, it keeps a checkpoint and is not
        to be resumed, or the run to resume was of another job (recipe, data or base changed).
        """
        if self.out.exists():
            raise CounterpointError(
                f"{self.out} exists already: choose another folder for --out, or remove it."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.folder / "lock", timeout=0).acquire()
        except Timeout:
            raise CounterpointError(
                f"{self.out} is being trained by another process: wait for it, or choose another folder for "
                "--out."
            ) from None
        except OSError as error:
            raise CounterpointError(
                f"{self.out} cannot be made ({error.strerror}): choose another folder for --out."
            ) from None
        with held:
            self._remove_damaged()
            job_file = self.folder / "job.json"
            if resume and job_file.exists():
                self._same_job(_read(job_file), job)
            else:
                self._nothing_kept()
                with self.writing():
                    for left in self.folder.iterdir():
                        if left.name != "lock":
                            _remove(left)
                    durable.write(job_file, json.dumps(job, indent=2) + "\n")
            _remove(self.result)
            yield

    def decided(self, what: str, decide: Callable[[], str]) -> str:
        """What was decided at the beginning of this run, for who holds the folder; now, if this is the beginning."""
        file = self.folder / "decided.json"
        before = _read(file)
        if what not in before:
            before[what] = decide()
            with self.writing():
                durable.write(file, json.dumps(before) + "\n")
        return str(before[what])

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that verifies. Only looks: another run may be writing one that does not yet."""
        for step, path in self._checkpoints():
            notes = _verified(path)
            if notes is not None:
                return Checkpoint(path, step, notes)
        return None

    def _checkpoints(self) -> list[tuple[int, Path]]:
        """All with their steps, the newest first."""
        steps = (path.name.removeprefix("checkpoint-") for path in self.folder.glob("checkpoint-*"))
        newest_first = sorted((int(step) for step in steps if step.isdigit()), reverse=True)
        return [(step, self.folder / f"checkpoint-{step}") for step in newest_first]

    def _remove_damaged(self) -> None:
        """Those newer than the newest that verifies, for who holds the folder."""
        for _, path in self._checkpoints():
            if _verified(path) is not None:
                return
            shutil.rmtree(path, ignore_errors=True)

    def what_is_kept(self) -> str:
        """A sentence on the checkpoint that there is, and how to go on from it."""
        kept = self.checkpoint()
        if kept is None:
            return "There is no checkpoint yet, so --resume would begin at step 1."
        return f"The checkpoint of step {kept.step} is kept: give the command again with --resume to go on from it."

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around what writes into the folder: a full disk and its like end the run in one line.

        Raises WorkFailed for the errors of Python, safetensors (its own) and torch.save (RuntimeError).
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise self._unwritten(getattr(error, "strerror", None) or str(error)) from error
        except RuntimeError as error:  # its text names places in torch's source
            if _is_out_of_memory(error):
                raise
            raise self._unwritten("torch could not write all of a file") from error

    def _unwritten(self, why: str) -> WorkFailed:
        return WorkFailed(
            f"{self.folder} cannot be written ({why}): make room on its disk. {self.what_is_kept()}"
        )

    @contextmanager
    def within_memory(self) -> Iterator[None]:
        """Around what takes memory: where there is no more of it, the run ends in one line. Raises WorkFailed."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise WorkFailed(
                f"the memory is used up: end other programs and go on, or begin anew with a smaller batch_size. "
                f"{self.what_is_kept()}"
            ) from error

    def seal(self, checkpoint: Path, notes: dict[str, Any]) -> None:
        """Makes a checkpoint trusted: fsync its files, then write their sha256 (and `notes`) last."""
        files = {}
        for path in sorted(checkpoint.iterdir()):
            if path.is_file():
                durable.sync(path)
                files[path.name] = durable.sha256(path)
        durable.write(checkpoint / MANIFEST, json.dumps({"files": files, "notes": notes}, indent=2) + "\n")
        durable.sync(self.folder)  # its own name too, before the checkpoint goes that was trusted till now
        for other in self.folder.glob("checkpoint-*"):
            if other != checkpoint:
                _remove(other)

    def publish(self) -> None:
        """Moves the complete result to `out` and removes the working folder."""
        for path in self.result.iterdir():
            durable.sync(path)
        durable.sync(self.result)
        self.result.rename(self.out)
        durable.sync(self.out.parent)
        _remove(self.folder)

    def _same_job(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if changed:
            raise CounterpointError(
                f"the run to resume was of another job ({', '.join(changed)} changed): "
                f"put that back, or start anew: {self._elsewhere}."
            )

    def _nothing_kept(self) -> None:
        kept = self.checkpoint()
        if kept is not None:
            raise CounterpointError(
                f"{self.out} is half trained, a stopped run got to step {kept.step}: add --resume to go on with it, or "
                f"start anew: {self._elsewhere}."
            )

    @property
    def _elsewhere(self) -> str:
        return f"choose another folder for --out, or remove {self.folder}"


def _verified(checkpoint: Path) -> dict[str, Any] | None:
    try:
        manifest = _read(checkpoint / MANIFEST)
        if all(durable.sha256(checkpoint / name) == digest for name, digest in manifest["files"].items()):
            return dict(manifest["notes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _read(file: Path) -> dict[str, Any]:
    """What one of our files tells; nothing where it is not there, or no longer what we wrote."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error of Python or torch is that; torch's for a CPU is told by its text alone."""
    told = str(error).casefold()
    return isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
