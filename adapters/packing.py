"""An export as one file to download, made by a process of its own: to merge takes memory for the whole base."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import FAILED, CounterpointError, WorkFailed


@dataclass(frozen=True, slots=True)
class Packed:
    """A .zip with the exported folder in it, and lines on what did not come along."""

    file: Path
    left: tuple[str, ...]


class Exporter:
    """Exports adapters. `command` does it: a program and its arguments, up to the adapter's name."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)

    def pack(self, name: str, to: str, persona: str | None, into: Path) -> Packed:
        """The adapter `name` in a format of `export.FORMATS`, as a new file in the folder `into`.

        Raises CounterpointError with the command's own line, and WorkFailed where it could not be made.
        """
        title = f"{name}-{to}"
        with tempfile.TemporaryDirectory(prefix="counterpoint-export-", dir=into) as scratch:
            out = Path(scratch) / title
            asked = [name, "--to", to, "--out", str(out), "--json"]
            asked += ["--persona", persona] if persona else []
            told = self._run(asked)
            file = Path(scratch) / f"{title}.zip"
            try:
                _zip(out, file)
                target = Path(tempfile.mkdtemp(dir=into)) / file.name
                shutil.move(file, target)
            except OSError as error:
                raise WorkFailed(
                    f"The file could not be written ({error.strerror}): make room on its disk."
                ) from None
        return Packed(target, tuple(json.loads(told)["left"]))

    def _run(self, arguments: Sequence[str]) -> str:
        done = subprocess.run(
            [*self._command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        lines = [line for line in done.stderr.splitlines() if line.startswith("counterpoint: ")]
        if not lines:
            raise WorkFailed(
                f"The export ended before it was done ({done.returncode}), most likely for want of memory: close other "
                "programs, or export on a larger machine with export-adapter."
            )
        kind = WorkFailed if done.returncode == FAILED else CounterpointError
        raise kind(lines[-1].removeprefix("counterpoint: "))


def _zip(folder: Path, file: Path) -> None:
    """Weights do not get smaller: they are stored as they are."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, Path(folder.name) / path.relative_to(folder))
