"""What the logbook has acknowledged survives whatever ends its program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_after_every_kill_the_file_is_sound_and_nothing_that_was_acknowledged_is_gone(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.logbook.killing", str(tmp_path), "200"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    print(told)
    assert (told["kills"], told["sound"]) == (200, 200)
    assert (told["missing"], told["running"]) == (0, 0)
    assert told["said"] > 2000
    assert told["lost"] > 10, "some were killed while an answer was under way"
