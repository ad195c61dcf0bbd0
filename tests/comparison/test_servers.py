"""What a person declares of servers, and what is told of a file that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.contract import Backend
from comparison.backends import Backends
from comparison.servers import FILE, Declared, ServerStore
from errors import CounterpointError
from tests.ui.scripted import ScriptedBackend

GPU = Declared(name="gpu", url="http://gpu:8000/v1")


def idle() -> ScriptedBackend:
    return ScriptedBackend(lambda requests: iter(()))


def test_what_is_saved_is_read_back_and_a_name_replaces_itself(tmp_path: Path) -> None:
    store = ServerStore(tmp_path)
    assert store.list() == ()
    hosted = Declared(
        name="hosted",
        url="https://api.example.com/v1/",
        model="small",
        key_env="EXAMPLE_KEY",
        adapters={"a": "ft:a"},
    )
    store.save(GPU)
    store.save(hosted)
    moved = GPU.model_copy(update={"url": "http://other:8000/v1"})
    store.save(moved)
    assert store.list() == (moved, hosted)
    assert hosted.url == "https://api.example.com/v1"
    store.remove("gpu")
    assert store.list() == (hosted,)
    with pytest.raises(CounterpointError, match=r"There is no server gpu. There are: hosted"):
        store.remove("gpu")


def test_every_problem_of_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(
        "servers:\n"
        "- name: local\n"
        "  url: http://a/v1\n"
        "- name: two\n"
        "  url: ftp://b\n"
        "  key: sk-123\n"
        "- name: three\n"
        "  url: https://user:word@c/v1\n"
        "  key_env: sk-123\n"
    )
    with pytest.raises(CounterpointError) as error:
        ServerStore(tmp_path).list()
    told = str(error.value)
    for expected in (
        "servers.yaml:2: servers[0].name",
        "servers.yaml:5: servers[1].url",
        "servers.yaml:6",
        "servers.yaml:8",
        "servers.yaml:9",
    ):
        assert expected in told, expected
    assert "sk-123" not in told


def test_two_servers_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("servers:\n" + 2 * "- {name: gpu, url: 'http://a/v1'}\n")
    with pytest.raises(CounterpointError, match="two servers are called gpu"):
        ServerStore(tmp_path).list()


def test_a_server_goes_on_until_its_declaration_changes(tmp_path: Path) -> None:
    store = ServerStore(tmp_path)
    store.save(GPU)
    store.save(Declared(name="stays", url="http://a/v1"))
    closed: list[str] = []

    class Closable(ScriptedBackend):
        def close(self) -> None:
            closed.append(self.name)

    def connect(declared: Declared) -> Backend:
        backend = Closable(lambda requests: iter(()))
        backend.name = declared.name
        return backend

    backends = Backends(idle(), store, connect)
    stays = backends.get("stays")
    assert backends.others == ("gpu", "stays")
    store.save(GPU.model_copy(update={"model": "m"}))
    backends.refresh()
    assert closed == ["gpu"]
    assert backends.get("stays") is stays
    store.remove("stays")
    backends.refresh()
    assert closed == ["gpu", "stays"]
    with pytest.raises(CounterpointError, match=r"There is no server stays. There are: gpu"):
        backends.get("stays")
