from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from errors import CounterpointError
from tests.ui.scripted import ScriptedBackend
from ui import page
from ui.parts import Parts

ROOT = Path(__file__).parents[2]


def test_the_page_is_served_with_uploads_in_a_private_folder(
    parts_with: Callable[[ScriptedBackend], Parts], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    seen: list[str] = []
    real = page.build

    def build(parts: Parts) -> object:
        built = real(parts)
        seen.extend(block.GRADIO_CACHE for block in built.blocks.values() if hasattr(block, "GRADIO_CACHE"))
        return built

    monkeypatch.setattr(page, "build", build)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CounterpointError, match="another port"):
            page.serve(parts_with(ScriptedBackend(lambda requests: iter(()))), *taken.getsockname())
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder != tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert seen
    assert {Path(each) for each in seen} == {folder}


def test_the_folder_of_uploads_is_gone_at_exit() -> None:
    program = (
        "from ui.uploads import make_private; folder = make_private(); "
        "(folder / 'weights').write_text('x'); print(folder)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not Path(ran.stdout.strip()).exists()
