"""What a person declares of servers, and what is told of a file that cannot be used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends.contract import Backend
from comparison import servers
from comparison.backends import Backends
from comparison.servers import FILE, KEY_PREFIX, MAIN, Declared, Entry, ServerStore
from errors import CounterpointError, WorkFailed
from tests.ui.scripted import ScriptedBackend

GPU = Entry(name="gpu", url="http://gpu:8000/v1")


def idle() -> ScriptedBackend:
    return ScriptedBackend(lambda requests: iter(()))


def test_what_is_saved_is_read_back_and_a_name_replaces_itself(tmp_path: Path) -> None:
    store = ServerStore(tmp_path)
    assert store.list() == ()
    hosted = Entry(
        name="hosted",
        url="https://api.example.com/v1/",
        model="small",
        key_env="COUNTERPOINT_KEY_EXAMPLE",
        adapters={"a": "ft:a"},
    )
    store.save(GPU)
    store.save(hosted)
    moved = GPU.model_copy(update={"url": "http://other:8000/v1"})
    store.save(moved, moved.name)
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


def test_the_file_names_no_variable_but_those_for_keys(tmp_path: Path) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "COUNTERPOINT_API_KEYS", "COUNTERPOINT_BACKEND_KEY", KEY_PREFIX):
        (tmp_path / FILE).write_text(f"servers:\n- name: gpu\n  url: http://a/v1\n  key_env: {name}\n")
        with pytest.raises(
            CounterpointError, match=r"servers.yaml:4.*COUNTERPOINT_KEY_, such as COUNTERPOINT_KEY_GPU"
        ):
            ServerStore(tmp_path).list()
        with pytest.raises(ValueError, match="COUNTERPOINT_KEY_"):
            ServerStore(tmp_path).save(GPU.model_copy(update={"key_env": name}))


@pytest.mark.parametrize("name", ["local", MAIN])
def test_a_name_that_stands_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"not .*'{name}'"):
        Entry(name=name, url="http://a/v1")


@pytest.mark.parametrize(
    "url",
    [
        "http://a:port/v1",
        "http://a:99999/v1",
        "http://a:0/v1",
        "http://[::1/v1",
        "http://a b/v1",
        "http://a/v1 ",
        "http://a/\nv1",
        "http://a/\u00a0v1",
        "http://a/v1#part",
    ],
)
def test_an_address_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be an address such as"):
        Declared(name="a", url=url)


def test_servers_that_are_saved_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"server-{number}" for number in range(8)]
    together = threading.Barrier(len(names))

    def save(name: str) -> None:
        together.wait()
        ServerStore(tmp_path).save(GPU.model_copy(update={"name": name}))

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(save, names))
    assert sorted(each.name for each in ServerStore(tmp_path).list()) == names


def test_who_saves_while_another_does_loses_nothing_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "LOCK_S", 0)
    store = ServerStore(tmp_path)
    store.save(GPU)
    with store._locked():
        for change in (lambda: store.save(GPU), lambda: store.remove("gpu")):
            with pytest.raises(WorkFailed, match="try again"):
                change()
    assert store.list() == (GPU,)


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
    store.save(GPU.model_copy(update={"model": "m"}), "gpu")
    backends.refresh()
    assert closed == ["gpu"]
    assert backends.get("stays") is stays
    store.remove("stays")
    backends.refresh()
    assert closed == ["gpu", "stays"]
    with pytest.raises(CounterpointError, match=r"There is no server stays. There are: gpu"):
        backends.get("stays")


def test_a_file_of_servers_that_cannot_be_read_keeps_nobody_from_the_main_backend(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("servers: nowhere\n")
    main = idle()
    backends = Backends(main, ServerStore(tmp_path))
    assert backends.get(None) is main
    assert backends.others == ()
    with pytest.raises(CounterpointError, match=rf"no server gpu.*servers\.yaml:1.*{tmp_path}"):
        backends.get("gpu")
    (tmp_path / FILE).write_text("servers:\n- name: gpu\n  url: http://a/v1\n")
    backends.refresh()
    assert (backends.others, backends.problem) == (("gpu",), "")
    backends.close()
