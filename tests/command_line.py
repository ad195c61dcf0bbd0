"""The command line in a process of its own, as the tests of the commands run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Place:
    """A data folder with a persona and adapters, and a folder to run in that is not the checkout."""

    base: Path
    data: Path
    cwd: Path

    @property
    def options(self) -> list[str]:
        return ["--base", str(self.base), "--quantization", "none", "--data-dir", str(self.data)]

    def run(
        self, *arguments: str | Path, stdout: int | IO[str] = subprocess.PIPE, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`python app.py ARGUMENTS`, with these environment variables and no others of ours."""
        return subprocess.run(
            [sys.executable, str(ROOT / "app.py"), *map(str, arguments)],
            cwd=self.cwd, env=self._environment(variables), stdout=stdout, stderr=subprocess.PIPE,
            text=True, timeout=300, check=False,
        )  # fmt: skip

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """The same, not waited for; what it says of errors is not kept."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "app.py"), *map(str, arguments)],
            cwd=self.cwd, env=self._environment({}), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERPOINT_")}
        return clean | {"COUNTERPOINT_CACHE_DIR": str(self.cwd / "cache")} | variables


def objects(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def refused(ran: subprocess.CompletedProcess[str], told: str, status: int = 2) -> None:
    """Exit status, nothing on stdout, and one line on stderr that holds `told`."""
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert ran.stderr.startswith("counterpoint: ")
    assert told in ran.stderr
