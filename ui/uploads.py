"""Where files that are uploaded to the page lie until they are imported: a folder that only we can open."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def make_private() -> Path:
    """Gives Gradio a fresh folder (0700) of its own for uploads, removed at exit; by default they lie in a
    folder that all programs of the machine share. To be called before the page is built, which reads it."""
    folder = Path(tempfile.mkdtemp(prefix="counterpoint-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    return folder
