"""An adapter as a folder for other programs: published whole or not at all, its source left as it is.

Nothing here imports torch; what does is in merge.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

import durable
from adapters import passport
from adapters.inspection import Inspection
from adapters.validator import CONFIG, WEIGHTS, inspect
from backends.contract import AdapterSource, BaseFacts
from errors import CounterpointError, WorkFailed

FORMATS = ("peft", "merged", "ollama")
ADAPTER = "adapter"
"""The folder of the weights beside a Modelfile."""
MAX_TEXT_BYTES = 2**20
"""Of settings and passport, as much as is ever read of them."""
_UNFINISHED = re.compile(r"\.counterpoint-export-[0-9a-f]{32}")
STALE_S = 3600.0


def check(to: str, out: Path, with_persona: bool) -> None:
    """Raises CounterpointError for an export that cannot be, before a base is fetched for it."""
    if to not in FORMATS:
        raise CounterpointError(f"--to {to}: choose {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    if with_persona and to != "ollama":
        raise CounterpointError(
            f"--to {to} has no place for a persona: leave --persona out, or say --to ollama."
        )
    if os.path.lexists(out):
        raise CounterpointError(f"--out {out} exists already: name another folder.")
    if not out.parent.is_dir():
        raise CounterpointError(f"--out {out}: there is no folder {out.parent}: make it, or name another.")


def to_peft(found: Inspection, base: BaseFacts, out: Path) -> None:
    """The usable adapter `found` as a folder that PEFT reads.

    Raises CounterpointError as `copy` does, and WorkFailed where `out` cannot be written.
    """
    with _new_folder(out, found) as folder:
        copy(found, base, folder)


def to_merged(found: Inspection, base: BaseFacts, out: Path, dtype: str = "auto") -> None:
    """`base` and the adapter as one model that Transformers loads alone; `dtype` "auto" is float32.

    Raises CounterpointError where either cannot be used, and WorkFailed where `out` cannot be written.
    """
    with _new_folder(out, found) as folder:
        from adapters import merge

        if found.source is None:
            raise CounterpointError(f"The adapter {found.name} can't be used: check it with check-adapter.")
        merge.save(found.source, base, folder, "float32" if dtype == "auto" else dtype)


def to_ollama(found: Inspection, base: BaseFacts, out: Path, modelfile: bytes) -> None:
    """A Modelfile, and the adapter in the folder ADAPTER beside it. Raises as `to_peft` does."""
    with _new_folder(out, found) as folder:
        durable.write_bytes(folder / "Modelfile", modelfile)
        (folder / ADAPTER).mkdir(mode=0o700)
        copy(found, base, folder / ADAPTER)


@contextmanager
def _new_folder(out: Path, found: Inspection) -> Iterator[Path]:
    """A hidden folder beside `out` to write into, which becomes `out` once the block has ended well.

    Where it has not, nothing stays. Raises CounterpointError for a place within the adapter itself, and WorkFailed
    where the folder cannot be written.
    """
    if found.folder.resolve() in out.resolve().parents:
        raise CounterpointError(f"--out {out} lies in the adapter's own folder: name one outside of it.")
    temporary = out.parent / f".counterpoint-export-{uuid.uuid4().hex}"
    try:
        _sweep(out.parent)
        temporary.mkdir(mode=0o700)
        yield temporary
        for path in sorted(temporary.rglob("*"), reverse=True):
            durable.sync(path)
        durable.sync(temporary)
        # A rename would take the place of an empty folder without a word.
        if os.path.lexists(out):
            raise CounterpointError(f"--out {out} exists already: name another folder.")
        temporary.rename(out)
        durable.sync(out.parent)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise WorkFailed(
            f"--out {out} cannot be written ({why}): make room on its disk, or name a folder on another."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy(found: Inspection, base: BaseFacts, folder: Path) -> None:
    """Copies a usable adapter's settings, weights and passport into `folder`, as PEFT reads them.

    Tensors whose names PEFT would pass over get those that it writes itself. Raises CounterpointError where the
    adapter is no longer what was inspected.
    """
    for name in (CONFIG, passport.FILE):
        if (found.folder / name).exists():
            with (found.folder / name).open("rb") as file:
                durable.write_bytes(folder / name, file.read(MAX_TEXT_BYTES + 1))
    shutil.copyfile(found.folder / WEIGHTS, folder / WEIGHTS)
    # What was copied is what counts. Whether it may be used on this base was settled for the original.
    copied = inspect(folder, base, override_base=True, name=found.name)
    if found.source is None or copied.source is None or copied.source.version != found.source.version:
        raise CounterpointError(
            f"The adapter {found.name} changed while it was copied: give the command again."
        )
    names = _renamed(found.source)
    if not names:
        return
    _rename_tensors(folder / WEIGHTS, names)
    if copied.passport:
        sha256 = durable.sha256(folder / WEIGHTS)
        passport.write(folder, copied.passport.model_copy(update={"adapter_sha256": sha256}))


def _renamed(source: AdapterSource) -> dict[str, str]:
    """The names of tensors that PEFT does not write, with those that it does."""
    names = {}
    for module, keys in source.keys.items():
        for key, side in zip(keys, "AB", strict=True):
            standard = f"base_model.model.{module}.lora_{side}.weight"
            if key != standard:
                names[key] = standard
    return names


def _rename_tensors(weights: Path, names: Mapping[str, str]) -> None:
    """Writes a safetensors file again under other names: another header before the same data."""
    changed = weights.with_suffix(".renamed")
    with weights.open("rb") as reader, changed.open("wb") as writer:
        header = json.loads(reader.read(int.from_bytes(reader.read(8), "little")))
        text = json.dumps({names.get(name, name): entry for name, entry in header.items()}).encode()
        text += b" " * (-len(text) % 8)  # data begins at a multiple of 8
        writer.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(reader, writer, 2**20)
    changed.replace(weights)


def _sweep(parent: Path) -> None:
    """Removes what a killed export left beside its target, more than an hour ago."""
    with suppress(OSError):  # a folder that cannot be listed may still be written
        for path in parent.iterdir():
            if _UNFINISHED.fullmatch(path.name) and time.time() - path.lstat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)
