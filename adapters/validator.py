"""Looks at an adapter's folder before PEFT, torch or safetensors do, and says what is wrong with it.

Nothing here imports torch, opens a pickle or evaluates a regular expression out of a file: only JSON of
bounded size, the weights' header, and their bytes for the sha256, for NaN and for zeros. An effect that is merely
too small is for the engine's probe.
"""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from pathlib import Path

import durable
from adapters import base_name, passport, weight_values
from adapters.adapter_tensors import Fitted, fit
from adapters.inspection import Inspection, as_dict, describe
from adapters.lora_config import LoraSettings, read_config
from adapters.safetensors_header import read_header
from backends.contract import AdapterSource, BaseFacts
from errors import CounterpointError
from strict_json import show

__all__ = ["Inspection", "as_dict", "describe", "inspect", "is_own_file", "slug"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MAX_WEIGHT_BYTES = 2 * 2**30
MAX_PASSPORT_BYTES = 2**20
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")


def slug(text: str) -> str:
    """`text` as an adapter's name: small letters, digits, and -_. between them."""
    found = re.sub(r"[^a-z0-9._-]+", "-", text.lower()[:200]).strip("-._")
    return found[:64].rstrip("-._") or "adapter"


def inspect(
    folder: Path, base: BaseFacts, *, override_base: bool = False, name: str | None = None
) -> Inspection:
    """All that is wrong with the adapter in `folder` for `base`; never raises for what the folder holds.

    `override_base` turns the refusal of an adapter that names another base into a warning; its shapes must
    fit all the same. `name` is the folder's name, made a slug, unless given.
    """
    found = Inspection(name=slug(folder.name) if name is None else name, folder=folder)
    try:
        problems = _check_name(found.name) + _check_folder(folder)
        if problems:
            return replace(found, problems=tuple(problems))
        return _inspect_files(found, base, override_base)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = f"the folder can't be read ({reason}): give yourself the right to read it."
        return replace(found, problems=(*found.problems, problem))


def _inspect_files(found: Inspection, base: BaseFacts, override_base: bool) -> Inspection:
    folder = found.folder
    problems: list[str] = []
    warnings: list[str] = []
    settings, wrong = read_config(folder / CONFIG)
    ours, passport_problem = _read_passport(folder)
    problems += wrong + ([passport_problem] if passport_problem else [])
    proven = _check_base(settings, ours, base, override_base, problems, warnings)
    fitted, sha256 = Fitted(), None
    size = (folder / WEIGHTS).stat().st_size
    if size > MAX_WEIGHT_BYTES:
        problems.append(f"{WEIGHTS} has {size:,} bytes, more than the {MAX_WEIGHT_BYTES:,} taken here.")
    else:
        try:
            tensors = read_header(folder / WEIGHTS)
            fitted, wrong = fit(tensors, settings, base.linears)
            problems += wrong + weight_values.check(folder / WEIGHTS, tensors, fitted)
            sha256 = durable.sha256(folder / WEIGHTS)
        except ValueError as error:
            problems.append(f"{WEIGHTS} can't be used: {error}; copy or save the adapter again.")
    if ours and sha256 and ours.adapter_sha256 != sha256:
        problems.append(
            f"{WEIGHTS} is not the file that {passport.FILE} was written for: copy both again, or remove the "
            "passport to use the weights as they are."
        )
    source = None
    if settings and sha256 and not problems:
        scaling = {module: settings.scaling(module, rank) for module, rank in fitted.ranks.items()}
        source = AdapterSource(found.name, folder.resolve() / WEIGHTS, sha256, scaling, fitted.keys)
    return replace(
        found,
        problems=tuple(problems),
        warnings=tuple(warnings),
        base_proven=proven and not problems,
        base_named=ours.base if ours else settings.base_named if settings else None,
        source=source,
        sha256=sha256,
        rank=max(fitted.ranks.values(), default=0),
        lora_alpha=settings.alpha if settings else 0.0,
        scaling="alpha / sqrt(r)" if settings and settings.rank_stabilised else "alpha / r",
        targets=fitted.kinds,
        parameters=fitted.parameters,
        weight_bytes=size,
        passport=ours,
    )


def _check_name(name: str) -> list[str]:
    if NAME.fullmatch(name):
        return []
    return [f"{show(name)} is no adapter's name: use 1 to 64 small letters, digits and -_. after the first."]


def _check_folder(folder: Path) -> list[str]:
    """Whether the two files are there and are files of this folder."""
    if not folder.exists():
        return [f"there is no folder {show(str(folder), 200)}: give the folder that holds {CONFIG}."]
    if not folder.is_dir():
        return [f"{show(folder.name)} is a file: give the folder that holds {CONFIG} and {WEIGHTS}."]
    there = sorted(path.name for path in folder.iterdir())
    if CONFIG not in there:
        return [_missing_config(folder, there)]
    if WEIGHTS not in there:
        return [_missing_weights(there)]
    problems = []
    for name in (CONFIG, WEIGHTS, passport.FILE):
        if name in there and not is_own_file(folder / name):
            problems.append(f"{name} is a link out of the folder, or no file: put the file itself there.")
    return problems


def is_own_file(path: Path) -> bool:
    """A regular file within its folder. The Hub's cache links its snapshots to its blobs: that is fine."""
    try:
        real, home = path.resolve(strict=True), path.parent.resolve(strict=True)
        if not stat.S_ISREG(real.stat().st_mode):
            return False
    except (OSError, RuntimeError):
        return False
    if real.parent == home:
        return True
    return home.parent.name == "snapshots" and real.parent == home.parent.parent / "blobs"


def _missing_config(folder: Path, there: list[str]) -> str:
    inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if inside:
        # The newest checkpoint is the one with the highest number.
        best = max(
            inside, key=lambda name: (int(number[0]) if (number := re.findall(r"\d+$", name)) else -1, name)
        )
        return f"{CONFIG} is missing, but {show(best)} inside has one ({len(inside)} such): give that folder."
    if "config.json" in there and any(name.startswith(("model", "pytorch_model")) for name in there):
        return f"{CONFIG} is missing: this is a whole model, no adapter; start with it as --base instead."
    if "recipe.yaml" in there:
        return (
            f"{CONFIG} is missing: the recipe here was not trained yet; run the train command on recipe.yaml."
        )
    if any(name.endswith(".gguf") for name in there):
        return f"{CONFIG} is missing: GGUF adapters are llama.cpp's; give the PEFT folder it was made from."
    what = ", ".join(show(name, 40) for name in there[:6]) or "nothing"
    return f"{CONFIG} is missing; the folder holds {what}: give the folder that PEFT's save_pretrained wrote."


def _missing_weights(there: list[str]) -> str:
    pickle = next((name for name in PICKLES if name in there), None)
    if pickle:
        return (
            f"{pickle} is a pickle, which can run code when opened: convert it where you trust it, with "
            f"safetensors.torch.save_file(torch.load('{pickle}', weights_only=True), '{WEIGHTS}')."
        )
    if "adapters.safetensors" in there:
        return f"{WEIGHTS} is missing: adapters.safetensors is MLX's; convert it to PEFT's format."
    if f"{WEIGHTS}.index.json" in there:
        return f"{WEIGHTS} is split into shards: save the adapter into one file."
    return f"{WEIGHTS} is missing beside {CONFIG}: copy the whole folder again."


def _read_passport(folder: Path) -> tuple[passport.Passport | None, str | None]:
    path = folder / passport.FILE
    if path.exists() and path.stat().st_size > MAX_PASSPORT_BYTES:
        return None, f"{passport.FILE} is larger than {MAX_PASSPORT_BYTES:,} bytes: remove it."
    try:
        return passport.read(folder), None
    except CounterpointError as error:
        return None, " ".join(str(error).split())[:1000]


def _check_base(
    settings: LoraSettings | None,
    ours: passport.Passport | None,
    base: BaseFacts,
    override: bool,
    problems: list[str],
    warnings: list[str],
) -> bool:
    """Whether the passport proves that the adapter was trained on `base`; adds what is to be said of it."""
    if ours is not None:
        if ours.base_sha256 == base.sha256:
            return True
        told = f"it was trained on another base ({show(ours.base)}, sha256 {ours.base_sha256[:12]}…)"
    elif settings is None:
        return False
    elif settings.base_named is None:
        warnings.append("base not proven: the adapter names none, and no passport is there.")
        return False
    else:
        verdict = base_name.compare(settings.base_named, base)
        named = show(settings.base_named, 100)
        if verdict != "other":
            how = "its name agrees" if verdict == "same" else f"it names {named}"
            warnings.append(f"base not proven: {how}, but no passport with its sha256 is there.")
            return False
        told = f"it names another base, {named}"
    if override:
        warnings.append(f"base not proven: {told}; used on {show(base.id)} because a person said so.")
    else:
        problems.append(f"{told}, not {show(base.id)}: start with that base, or override this check.")
    return False
