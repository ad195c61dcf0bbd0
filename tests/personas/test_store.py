"""Keeping personas: whole or not at all, safe names, one bad file harms nothing else."""

import os
import stat
from pathlib import Path

import pytest

import durable
from errors import CounterpointError
from personas import store as store_module
from personas.store import PersonaStore
from tests.personas.texts import FULL, MINIMAL


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "tester.yaml").write_text(MINIMAL)
    (folder / "full.yaml").write_text(FULL)
    return folder


@pytest.fixture
def store(library: Path, tmp_path: Path) -> PersonaStore:
    return PersonaStore(library, tmp_path / "data")


def yours(tmp_path: Path) -> Path:
    return tmp_path / "data" / "personas"


def test_lists_what_ships_before_anything_is_saved(store, tmp_path):
    assert [(e.name, e.origin, e.problem, e.shadows) for e in store.list()] == [
        ("full", "library", None, False),
        ("tester", "library", None, False),
    ]
    assert not (tmp_path / "data").exists()


def test_a_saved_persona_is_found_listed_and_kept_as_typed(store, tmp_path):
    text = "# my notes\n" + MINIMAL.replace("name: tester", "name: mine")
    assert store.save(text).name == "mine"
    assert store.text("mine") == text
    assert store.get("mine").role == "You test."
    entry = next(e for e in store.list() if e.name == "mine")
    assert (entry.origin, entry.path) == ("yours", yours(tmp_path) / "mine.yaml")


def test_what_is_saved_is_for_its_owner_only(store, tmp_path):
    store.save(MINIMAL)
    assert stat.S_IMODE((yours(tmp_path) / "tester.yaml").stat().st_mode) == 0o600
    assert stat.S_IMODE(yours(tmp_path).stat().st_mode) == 0o700


def test_yours_shadows_a_shipped_one_and_the_list_says_so(store, library):
    store.save(MINIMAL.replace("You test.", "You test differently."))
    entries = [e for e in store.list() if e.name == "tester"]
    assert [(e.origin, e.shadows) for e in entries] == [("yours", True)]
    assert store.get("tester").role == "You test differently."
    assert (library / "tester.yaml").read_text() == MINIMAL
    store.delete("tester")
    assert store.get("tester").role == "You test."
    assert [e.origin for e in store.list() if e.name == "tester"] == ["library"]


def test_an_invalid_text_is_not_saved_and_leaves_the_old_one(store, tmp_path):
    store.save(MINIMAL)
    with pytest.raises(CounterpointError, match="not a field"):
        store.save(MINIMAL + "other: 1\n")
    assert store.text("tester") == MINIMAL
    assert os.listdir(yours(tmp_path)) == ["tester.yaml"]


def test_a_save_that_fails_half_way_leaves_the_old_text_and_no_litter(store, tmp_path, monkeypatch):
    store.save(MINIMAL)

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full_disk)
    with pytest.raises(CounterpointError, match="No space left"):
        store.save(MINIMAL.replace("You test.", "You fail."))
    assert store.text("tester") == MINIMAL
    assert os.listdir(yours(tmp_path)) == ["tester.yaml"]


def test_the_text_reaches_the_disk_before_the_name_does(store, monkeypatch):
    order = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(
        durable.os,
        "fsync",
        lambda handle: (
            order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"),
            real_sync(handle),
        ),
    )
    monkeypatch.setattr(
        Path, "replace", lambda self, target: (order.append("rename"), real_replace(self, target))[1]
    )
    store.save(MINIMAL)
    assert order == ["file", "rename", "folder"]


def test_a_bad_file_is_listed_with_its_problem_and_breaks_nothing_else(store, library):
    (library / "broken.yaml").write_text("name: broken\nrole: [")
    (library / "latin.yaml").write_bytes(b"name: caf\xe9")
    (library / "huge.yaml").write_text("# " + "x" * 300_000)
    (library / "renamed.yaml").write_text(MINIMAL)
    (library / "folder.yaml").mkdir()
    (library / "gone.yaml").symlink_to(library / "nowhere")
    entries = {e.name: e for e in store.list()}
    assert {name for name, e in entries.items() if e.problem} == {
        "broken",
        "latin",
        "huge",
        "renamed",
        "folder",
        "gone",
    }
    assert entries["broken"].problem.startswith("broken.yaml:2:")
    assert "UTF-8" in entries["latin"].problem
    assert "renamed" in entries["renamed"].problem
    assert all(e.persona is None for e in entries.values() if e.problem)
    assert store.get("full").name == "full"
    with pytest.raises(CounterpointError, match=r"broken\.yaml:2:"):
        store.get("broken")
    assert store.text("broken") == "name: broken\nrole: ["
    with pytest.raises(CounterpointError, match="larger than"):
        store.text("huge")


def test_a_name_that_is_not_the_files_is_told_with_its_line_and_with_all_else(store, library):
    (library / "other.yaml").write_text(
        "# mine\n" + MINIMAL.replace("name: tester", "name: mine") + "more: 1\n"
    )
    problem = next(e.problem for e in store.list() if e.name == "other")
    assert problem.split("; ") == [
        "other.yaml:2: name: is 'mine', but the file's name says 'other': make them the same",
        "other.yaml:7: more: is not a field that is known here (a misspelling?)",
    ]


def test_a_name_that_several_files_give_is_told_of_those_whose_file_is_called_otherwise(store, library):
    (library / "copy.yaml").write_text(MINIMAL.replace("You test.", "Be {{ghost}}."))
    for twin in ("left", "right"):
        (library / f"{twin}.yaml").write_text(MINIMAL.replace("name: tester", "name: both"))
    problems = {e.name: e.problem for e in store.list() if e.problem}
    assert problems.keys() == {"copy", "left", "right"}
    assert "copy.yaml:1: name: is 'tester' like that of tester.yaml, but" in problems["copy"]
    assert "copy.yaml:4: role: uses {{ghost}}" in problems["copy"]
    assert problems["left"].startswith("left.yaml:1: name: is 'both' like that of right.yaml, but")
    assert store.get("tester").role == "You test."
    (library / "right.yaml").unlink()
    with pytest.raises(CounterpointError, match=r"left\.yaml:1: name: is 'both', but"):
        store.get("left")


def test_a_bad_file_of_yours_is_not_silently_replaced_by_the_shipped_one(store, tmp_path):
    yours(tmp_path).mkdir(parents=True)
    (yours(tmp_path) / "tester.yaml").write_text("name: [")
    with pytest.raises(CounterpointError, match="cannot be used"):
        store.get("tester")


def test_an_unknown_name_is_answered_with_those_there_are(store):
    with pytest.raises(CounterpointError, match="There are: full, tester"):
        store.get("ghost")


@pytest.mark.parametrize(
    "name",
    [
        "../tester",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "tester.yaml",
        "TESTER",
        "a\0",
        "tester\n",
        "x" * 65,
    ],
)
def test_names_cannot_leave_the_folder(store, library, tmp_path, name):
    (tmp_path / "tester.yaml").write_text(MINIMAL)
    for act in (store.get, store.text, store.delete, lambda n: store.duplicate("tester", n)):
        with pytest.raises(CounterpointError, match="no persona's name"):
            act(name)
    assert (tmp_path / "tester.yaml").exists()


def test_a_shipped_persona_cannot_be_deleted(store, library):
    with pytest.raises(CounterpointError, match="ships with the app"):
        store.delete("tester")
    assert (library / "tester.yaml").exists()


def test_a_duplicate_is_yours_and_says_the_same_under_its_new_name(store):
    copy = store.duplicate("full", "fuller")
    assert copy == store.get("full").model_copy(update={"name": "fuller"})
    assert store.get("fuller") == copy
    assert next(e for e in store.list() if e.name == "fuller").origin == "yours"


@pytest.mark.parametrize("taken", ["tester", "full"])
def test_a_duplicate_does_not_take_a_name_that_is_there(store, taken):
    with pytest.raises(CounterpointError, match="already"):
        store.duplicate("full", taken)


def test_a_persona_from_elsewhere_replaces_one_only_where_told_to(store, library, tmp_path):
    other = store.get("full").model_copy(update={"name": "tester"})
    with pytest.raises(CounterpointError, match="a persona tester already"):
        store.add(other)
    assert not yours(tmp_path).exists()
    assert store.add(other, replace=True) == store.get("tester") == other
    assert store.add(other.model_copy(update={"name": "new"})).name == "new"
    assert (library / "tester.yaml").read_text() == MINIMAL


def test_an_edit_on_disk_is_seen_and_an_unchanged_file_is_read_once(store, library, monkeypatch):
    parsed = []
    real = store_module.parse_persona
    monkeypatch.setattr(
        store_module,
        "parse_persona",
        lambda text, source, judge: (parsed.append(source), real(text, source, judge))[1],
    )
    store.list()
    store.list()
    store.get("full")
    assert sorted(parsed) == ["full.yaml", "tester.yaml"]
    (library / "full.yaml").write_text(FULL.replace("Plain.", "Very plain."))
    assert store.get("full").style == ("Very plain.",)
    assert sorted(parsed) == ["full.yaml", "full.yaml", "tester.yaml"]


def test_a_disk_that_refuses_to_delete_is_told_in_one_line(store: PersonaStore, tmp_path: Path) -> None:
    # A folder in the file's place cannot be unlinked, whoever runs this test.
    (yours(tmp_path) / "mine.yaml").mkdir(parents=True)
    with pytest.raises(CounterpointError, match="mine could not be deleted"):
        store.delete("mine")
