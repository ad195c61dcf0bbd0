"""The store: lists what is there, the broken too, and brings adapters in whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import adapters.store as store_module
from adapters import passport
from adapters.inspection import describe
from adapters.store import AdapterEntry, AdapterStore
from adapters.verdict import Figure, Gate, judge
from backends.contract import BaseFacts
from errors import CounterpointError
from tests import tiny
from tests.adapters.folders import CONFIG, WEIGHTS, add_passport, rewrite_tensors


@pytest.fixture
def library(tiny_adapters: dict[str, Path], tmp_path: Path) -> Path:
    """A library with one adapter, "narrow"."""
    shutil.copytree(tiny_adapters["narrow"], tmp_path / "library" / "narrow")
    return tmp_path / "library"


@pytest.fixture
def store(library: Path, tmp_path: Path, base: BaseFacts) -> AdapterStore:
    return AdapterStore(library, tmp_path / "data", lambda: base)


def names(store: AdapterStore) -> dict[str, bool]:
    return {entry.name: entry.usable for entry in store.list()}


def yours(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data" / "adapters").glob("*"))


def test_an_imported_adapter_is_listed_after_the_librarys_and_can_be_loaded(
    store: AdapterStore, adapter: Path
) -> None:
    entry = store.import_folder(adapter)
    assert (entry.name, entry.origin, entry.usable) == ("one", "yours", True)
    assert [(entry.name, entry.origin) for entry in store.list()] == [("narrow", "library"), ("one", "yours")]
    source = store.source("one")
    assert source.name == "one"
    assert source.weights.read_bytes() == (adapter / WEIGHTS).read_bytes()


def test_only_the_known_files_are_copied_and_for_the_owner_alone(
    store: AdapterStore, adapter: Path, tmp_path: Path, base: BaseFacts
) -> None:
    add_passport(adapter, base)
    (adapter / "optimizer.pt").write_bytes(b"pickle")
    (adapter / "sub").mkdir()
    folder = store.import_folder(adapter).inspection.folder
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", CONFIG, WEIGHTS, "passport.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    for private in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert store.get("one").inspection.base_proven


def test_a_readme_that_links_elsewhere_is_not_copied(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (adapter / "README.md").unlink()
    (adapter / "README.md").symlink_to(tmp_path / "secret")
    assert not (store.import_folder(adapter).inspection.folder / "README.md").exists()


def test_an_import_can_be_named_and_a_taken_name_is_refused(store: AdapterStore, adapter: Path) -> None:
    assert store.import_folder(adapter, name="pirate").name == "pirate"
    for taken in ("pirate", "narrow"):
        with pytest.raises(CounterpointError, match=f"{taken} already"):
            store.import_folder(adapter, name=taken)
    with pytest.raises(CounterpointError, match="no adapter's name"):
        store.import_folder(adapter, name="../../escape")


def test_a_bad_folder_is_refused_with_all_its_problems_in_one_line_and_leaves_nothing(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    tiny.edit_config(adapter, use_dora=True, bias="all")
    with pytest.raises(CounterpointError) as error:
        store.import_folder(adapter)
    assert "DoRA" in str(error.value)
    assert "bias" in str(error.value)
    assert "\n" not in str(error.value)
    assert yours(tmp_path) == []


def test_a_copy_that_fails_leaves_nothing(
    store: AdapterStore, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.shutil, "copyfileobj", full)
    with pytest.raises(CounterpointError, match="No space left"):
        store.import_folder(adapter)
    assert list((tmp_path / "data" / "adapters").iterdir()) == []


def test_a_folder_that_changes_while_it_is_copied_is_refused(
    store: AdapterStore, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy: Callable[[Path, Path], None] = store_module._copy

    def swap(source: Path, target: Path) -> None:
        if source.name == WEIGHTS:
            source.write_bytes(b"something else")
        copy(source, target)

    monkeypatch.setattr(store_module, "_copy", swap)
    with pytest.raises(CounterpointError, match="changed while it was copied"):
        store.import_folder(adapter)
    assert list((tmp_path / "data" / "adapters").iterdir()) == []


def test_broken_folders_are_listed_with_their_problems_and_break_nothing_else(
    store: AdapterStore, library: Path, adapter: Path
) -> None:
    broken = {
        "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
        "cut": lambda folder: (folder / WEIGHTS).write_bytes(b"cut"),
        "pickle": lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"),
        "dora": lambda folder: tiny.edit_config(folder, use_dora=True),
    }
    for name, breaking in broken.items():
        breaking(Path(shutil.copytree(adapter, library / name)))
    (library / "README.md").write_text("not an adapter")
    (library / ".hidden").mkdir()
    assert names(store) == {"narrow": True} | dict.fromkeys(broken, False)
    assert store.source("narrow")
    for name in broken:
        entry = store.get(name)
        assert entry.inspection.problems
        with pytest.raises(CounterpointError) as error:
            store.source(name)
        assert entry.inspection.problems[0] in str(error.value)


def test_an_unknown_name_is_answered_with_what_exists(store: AdapterStore) -> None:
    for ask in (store.get, store.source, store.delete):
        with pytest.raises(CounterpointError, match="'nobody': choose one of these: narrow"):
            ask("nobody")


def test_a_check_tells_what_an_import_would_and_changes_nothing(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    tiny.edit_config(adapter, base_model_name_or_path="meta-llama/Llama-2-7b-hf")
    assert not store.check(adapter).usable
    assert store.check(adapter, name="llama", override_base=True).usable
    assert names(store) == {"narrow": True}
    assert not (tmp_path / "data").exists()


def test_a_store_without_folders_is_empty(tmp_path: Path, base: BaseFacts) -> None:
    assert AdapterStore(tmp_path / "none", tmp_path / "nothing", lambda: base).list() == []


def test_an_override_is_recorded_and_holds_for_that_base_alone(
    library: Path, adapter: Path, tmp_path: Path, base: BaseFacts
) -> None:
    current = [base]
    store = AdapterStore(library, tmp_path / "data", lambda: current[0])
    tiny.edit_config(adapter, base_model_name_or_path="meta-llama/Llama-2-7b-hf")
    with pytest.raises(CounterpointError, match="another base"):
        store.import_folder(adapter)
    entry = store.import_folder(adapter, override_base=True)
    assert entry.usable
    assert "because a person said so" in entry.inspection.warnings[0]
    record = json.loads((entry.inspection.folder / "override.json").read_text())
    assert record["base_sha256"] == base.sha256
    assert AdapterStore(library, tmp_path / "data", lambda: base).get("one").usable
    current[0] = replace(base, sha256="ef" * 32)
    assert not store.get("one").usable


def test_an_override_that_is_not_needed_is_not_recorded(store: AdapterStore, adapter: Path) -> None:
    folder = store.import_folder(adapter, override_base=True).inspection.folder
    assert not (folder / "override.json").exists()


def test_an_override_file_that_came_with_the_folder_is_not_believed(
    store: AdapterStore, adapter: Path, base: BaseFacts
) -> None:
    tiny.edit_config(adapter, base_model_name_or_path="meta-llama/Llama-2-7b-hf")
    record = {"override_base": True, "base_sha256": base.sha256}
    (adapter / "override.json").write_text(json.dumps(record))
    with pytest.raises(CounterpointError, match="another base"):
        store.import_folder(adapter)


def test_yours_can_be_deleted_and_the_librarys_not(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    store.import_folder(adapter)
    store.delete("one")
    assert names(store) == {"narrow": True}
    assert list((tmp_path / "data" / "adapters").iterdir()) == []
    with pytest.raises(CounterpointError, match="ships with"):
        store.delete("narrow")
    assert names(store) == {"narrow": True}


def test_a_link_in_the_data_folder_is_unusable_and_deleting_it_spares_its_target(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    (tmp_path / "data" / "adapters").mkdir(parents=True)
    (tmp_path / "data" / "adapters" / "link").symlink_to(adapter)
    assert names(store)["link"] is False
    assert "link out" in store.get("link").inspection.problems[0]
    store.delete("link")
    assert (adapter / CONFIG).exists()
    assert yours(tmp_path) == []


def test_two_adapters_of_one_name_are_both_listed_and_the_first_is_meant(
    store: AdapterStore, adapter: Path, tmp_path: Path, library: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "data" / "adapters" / "Narrow")
    assert names(store) == {"narrow": True, "narrow-2": False}
    assert store.source("narrow").weights.is_relative_to(library)
    assert "rename the folder" in store.get("narrow-2").inspection.problems[-1]


def test_a_folder_is_inspected_again_only_when_it_or_the_base_changed(
    library: Path, tmp_path: Path, base: BaseFacts, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, looked = [base], []
    inspect = store_module.inspect

    def counting(folder: Path, *args: object, **kwargs: object) -> object:
        looked.append(folder.name)
        return inspect(folder, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "inspect", counting)
    store = AdapterStore(library, tmp_path / "data", lambda: current[0])
    shutil.copytree(adapter, library / "one")
    for _ in range(3):
        store.list()
    assert sorted(looked) == ["narrow", "one"]
    looked.clear()
    rewrite_tensors(library / "one", lambda all: {name: tensor + 1 for name, tensor in all.items()})
    store.list()
    assert looked == ["one"]
    looked.clear()
    current[0] = replace(base, sha256="ef" * 32)
    store.list()
    assert sorted(looked) == ["narrow", "one"]


def test_a_repaired_folder_becomes_usable(store: AdapterStore, library: Path) -> None:
    whole = (library / "narrow" / WEIGHTS).read_bytes()
    (library / "narrow" / WEIGHTS).write_bytes(whole[:-8])
    assert names(store) == {"narrow": False}
    (library / "narrow" / WEIGHTS).write_bytes(whole)
    assert names(store) == {"narrow": True}


@pytest.mark.parametrize(("factor", "words"), [(0.0, "no effect"), (float("nan"), "not finite")])
def test_an_import_refuses_useless_weights_in_the_words_of_the_check_and_copies_nothing(
    store: AdapterStore, adapter: Path, tmp_path: Path, factor: float, words: str
) -> None:
    rewrite_tensors(adapter, lambda all: {name: tensor * factor for name, tensor in all.items()})
    found = store.check(adapter)
    (problem,) = found.problems
    assert words in problem
    assert describe(found)[0] == "one: not usable"
    with pytest.raises(CounterpointError, match=re.escape(problem)):
        store.import_folder(adapter)
    assert yours(tmp_path) == []
    assert names(store) == {"narrow": True}


def test_what_the_probe_found_is_shown_until_the_weights_change(
    store: AdapterStore, adapter: Path, library: Path
) -> None:
    store.import_folder(adapter)
    store.mark("one", "it has no effect on the answers:\ntrain it again.")
    assert names(store) == {"narrow": True, "one": False}
    assert store.get("one").inspection.problems == ("it has no effect on the answers: train it again.",)
    with pytest.raises(CounterpointError, match="no effect"):
        store.source("one")
    folder = store.get("one").inspection.folder
    rewrite_tensors(folder, lambda all: {name: tensor * 2 for name, tensor in all.items()})
    assert names(store) == {"narrow": True, "one": True}
    store.mark("one", "no effect")
    store.mark("one", None)
    assert store.source("one")


def test_an_adapter_whose_scaling_was_mended_is_usable_again(store: AdapterStore, adapter: Path) -> None:
    store.import_folder(adapter)
    store.mark("one", "it has no effect on the answers")
    folder = store.get("one").inspection.folder
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"lora_alpha": 2 * config["lora_alpha"]}))
    assert store.source("one")


def test_what_a_crash_left_behind_is_not_listed(store: AdapterStore, adapter: Path, tmp_path: Path) -> None:
    import os

    root = tmp_path / "data" / "adapters"
    old, new = root / ".import-old", root / ".import-new"
    shutil.copytree(adapter, old)
    shutil.copytree(adapter, new)
    os.utime(old, (0, 0))
    assert names(store) == {"narrow": True}
    store.import_folder(adapter)
    assert not old.exists()
    assert new.exists()


def test_importers_of_one_name_at_once_get_one_adapter_between_them(
    store: AdapterStore, adapter: Path, tmp_path: Path
) -> None:
    done: list[AdapterEntry] = []
    refused: list[CounterpointError] = []

    def bring() -> None:
        try:
            done.append(store.import_folder(adapter))
        except CounterpointError as error:
            refused.append(error)

    threads = [threading.Thread(target=bring) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    assert len(refused) == 5
    assert all("already" in str(error) for error in refused)
    assert [path.name for path in (tmp_path / "data" / "adapters").iterdir()] == ["one"]


def test_an_import_whose_half_made_folder_goes_while_another_sweeps_is_no_fault(
    store: AdapterStore, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "data" / "adapters" / ".import-gone"
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter([gone]))
    assert store.import_folder(adapter).usable


def test_no_base_yet_is_said_by_the_base_itself(library: Path, tmp_path: Path) -> None:
    def loading() -> BaseFacts:
        raise CounterpointError("The base is still loading: wait a moment.")

    with pytest.raises(CounterpointError, match="still loading"):
        AdapterStore(library, tmp_path / "data", loading).list()


def test_an_adapter_that_failed_is_offered_only_where_a_person_said_so_and_stays_marked(
    store: AdapterStore, adapter: Path, base: BaseFacts
) -> None:
    made = passport.read(add_passport(adapter, base))
    assert made is not None
    worse = judge("loss", Figure(value=2, low=1.9, high=2.1, n=9), 1.0, {})
    gate = Gate(findings=(worse,), omitted={}, seconds=1)
    passport.write(adapter, made.model_copy(update={"gate": gate}))
    with pytest.raises(CounterpointError, match=r"did not pass the test after its training \(loss\)"):
        store.import_folder(adapter)
    entry = store.import_folder(adapter, accept_failed=True)
    assert entry.usable
    assert "used all the same" in entry.inspection.warnings[0]
    # What was said holds for these weights alone.
    (entry.inspection.folder / "override.json").write_text(json.dumps({"accept_failed": "0" * 64}))
    assert not store.get(entry.name).usable
