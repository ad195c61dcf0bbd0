"""Files that last: written whole or not at all, also when the power goes, and known by their sha256; folders that leave
at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path


def write(target: Path, text: str) -> None:
    """Puts text into a file that only its owner reads; what was there before stays until all of it is on disk.

    Raises OSError where the folder cannot be written.
    """
    write_bytes(target, text.encode())


def write_bytes(target: Path, content: bytes) -> None:
    """As `write`, for what is no text."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(target.parent)


def remove(folder: Path) -> None:
    """Takes a folder away with all in it, at once for whoever lists those that are not hidden. Raises OSError."""
    doomed = folder.with_name(f".deleted-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def sync(path: Path) -> None:
    """Brings a file, or a folder's list of names, to disk; Windows has no such thing for folders."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Of the file's bytes, in lower case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
