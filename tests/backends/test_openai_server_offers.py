"""A server behind the OpenAI API: what its list of models means, when it is looked at, and what is loaded there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends import server_client, server_offer
from backends.circuit import Circuit
from backends.served import MOST_ADAPTERS
from errors import CounterpointError, WorkFailed
from tests.backends.asked import MODELS, asked_of, end_message, end_of, request, text_of, wait_until
from tests.backends.scripted_server import BASE, Call


def test_a_fresh_look_sees_what_is_new_and_a_server_that_is_back() -> None:
    circuit = Circuit(failures=1, pause_s=1000)
    with asked_of(lambda call: call.answer("x"), circuit=circuit) as (backend, server):
        assert dict(backend.offer().adapters) == {}
        server.models = MODELS
        assert dict(backend.offer().adapters) == {}, "believed for a while"
        circuit.failed("gone")
        assert set(backend.offer(fresh=True).adapters) == {"support", "orders"}
        assert backend.status().state == "ready"


def test_adapters_are_looked_up_again_after_one_was_loaded_and_known_meanwhile() -> None:
    with asked_of(lambda call: call.answer("x"), models=MODELS) as (backend, server):
        backend.offer()
        server.other = lambda call: call.status(200, "{}")
        backend.load_adapter("mine", "/adapters/mine")
        assert backend.base() == BASE
        server.models = [*MODELS, {"id": "mine", "parent": BASE}]
        assert "mine" in backend.offer().adapters


def test_adapters_are_those_with_the_base_as_parent_or_in_their_id_and_those_of_the_map() -> None:
    with asked_of(lambda call: call.answer("x"), models=MODELS, adapters={"mine": "hidden"}) as (backend, _):
        assert dict(backend.offer().adapters) == {
            "support": "support", "orders": f"{BASE}:orders", "mine": "hidden",
        }  # fmt: skip
        assert backend.offer().base == BASE
        assert backend.probe("support") is None
        assert "has no adapter nobody" in (backend.probe("nobody") or "")


@pytest.mark.parametrize("model", [None, "org/small", "short"])
def test_a_base_of_several_names_has_the_adapters_of_each(model: str | None) -> None:
    """As vLLM lists them: an adapter's parent is the first name, its root the folder that it came from."""
    own = {"object": "model", "owned_by": "vllm"}
    models = [
        {"id": "org/small", "root": "/models/small", "parent": None, **own},
        {"id": "short", "root": "/models/small", "parent": None, **own},
        {"id": "support", "root": "/adapters/support", "parent": "org/small", **own},
    ]
    with asked_of(lambda call: call.answer("x"), models=models, model=model) as (backend, _):
        assert backend.offer().base == (model or "org/small")
        assert dict(backend.offer().adapters) == {"support": "support"}
    other = {"id": "large", "root": "/models/large", "parent": None, **own}
    with (
        asked_of(lambda call: call.answer("x"), models=[*models, other]) as (backend, _),
        pytest.raises(CounterpointError, match="serves several models"),
    ):
        backend.offer()


def test_sglangs_adapters_are_listed_by_their_names_and_asked_for_as_parts_of_the_base() -> None:
    own = {"object": "model", "owned_by": "sglang"}
    names = ("support", "qwen:orders")
    models = [{"id": "qwen", **own}, *({"id": name, "parent": "qwen", **own} for name in names)]
    declared = {"help": "support", "mine": "hidden"}
    with asked_of(lambda call: call.answer("x"), models=models, adapters=declared) as (backend, server):
        assert dict(backend.offer().adapters) == {
            "support": "qwen:support", "orders": "qwen:orders", "help": "qwen:support", "mine": "hidden",
        }  # fmt: skip
        list(backend.stream([request(adapter="support")]))
    assert server.asked[0]["model"] == "qwen:support"


def test_another_counterpoints_modes_are_its_base_and_its_adapters() -> None:
    own = {"object": "model", "owned_by": "counterpoint"}
    models = [
        {"id": "base", "root": "org/small", **own},
        {"id": "persona:clerk", **own},
        {"id": "adapter:orders", "parent": "base", **own},
        {"id": "adapter:orders+persona:clerk", **own},
    ]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, server):
        offer = backend.offer()
        list(backend.stream([request(adapter="orders")]))
    assert (offer.base, offer.base_name, dict(offer.adapters)) == (
        "base",
        "org/small",
        {"orders": "adapter:orders"},
    )
    assert server.asked[0]["model"] == "adapter:orders"


def test_of_several_bases_one_must_be_named() -> None:
    models = [{"id": "one"}, {"id": "two"}]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, _):
        with pytest.raises(CounterpointError, match=r"name one of them as `model`: one, two"):
            backend.offer()
        assert "name one of them" in end_message(backend)
    with asked_of(lambda call: call.answer("x"), models=models, model="two") as (backend, server):
        list(backend.stream([request()]))
        assert server.asked[0]["model"] == "two"


def test_a_named_model_is_believed_of_a_provider_and_looked_up_in_ones_own_servers_list() -> None:
    hosted = [{"id": "models/other", "owned_by": "google"}]
    with asked_of(lambda call: call.answer("x"), models=hosted, model="new") as (backend, server):
        assert text_of(list(backend.stream([request()]))) == "x"
        assert server.asked[0]["model"] == "new"
    with asked_of(lambda call: call.answer("x"), model="new") as (backend, server):
        assert f"has no model new. It has: {BASE}" in end_message(backend)
        assert server.asked == []


def test_adapters_whose_names_no_mode_can_have_are_left_out() -> None:
    names = ["org/fine one", "two\nlines", "bell\x07", "a+persona:b", "a+adapter:b", " ", "x" * 201]
    models = [{"id": BASE, "owned_by": "vllm"}, *({"id": name, "parent": BASE} for name in names)]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, _):
        assert list(backend.offer().adapters) == ["org/fine one"]


def test_an_adapter_is_loaded_once_whatever_comes_of_it() -> None:
    with asked_of(lambda call: call.answer("x")) as (backend, server):
        server.other = lambda call: call.status(500, "{}", Retry_After="0")
        with pytest.raises(WorkFailed, match="failed: look at its own log"):
            backend.load_adapter("mine", "/adapters/mine")
        assert len(server.posted) == 1


def test_of_more_adapters_than_a_list_can_show_the_first_by_name_are_taken() -> None:
    names = [f"a{number:05}" for number in reversed(range(MOST_ADAPTERS + 5))]
    models = [{"id": BASE, "owned_by": "vllm"}, *({"id": name, "parent": BASE} for name in names)]
    declared = {"zebra": "a01003", "z": "hidden"}
    with asked_of(lambda call: call.answer("x"), models=models, adapters=declared) as (backend, _):
        offer = backend.offer()
        assert list(offer.adapters) == [*sorted(names)[: MOST_ADAPTERS - 2], "z", "zebra"]
        assert backend.adapters() == tuple(offer.adapters)
        assert offer.left_out == 7
        assert len(end_message(backend, adapter="nobody")) < 1000


def test_a_server_without_a_list_answers_as_the_model_that_was_declared() -> None:
    with asked_of(lambda call: call.answer("x"), model="org/other") as (backend, server):
        server.listed = lambda call: call.status(404, "{}")
        assert text_of(list(backend.stream([request()]))) == "x"
    assert server.asked[0]["model"] == "org/other"


@pytest.mark.parametrize("entry", [{"owned_by": ["a"]}, {"parent": {}, "owned_by": {}}])
def test_a_list_of_models_that_makes_no_sense_is_told(entry: dict[str, Any]) -> None:
    with asked_of(lambda call: call.answer("x"), models=[{"id": BASE, **entry}], model="org/x") as (
        backend,
        _,
    ):
        assert backend.adapters(20) == ()
        assert "no answer of the OpenAI API" in getattr(
            end_of(list(backend.stream([request()]))), "message", ""
        )


def test_loading_an_adapter_where_the_server_has_it_disabled_names_the_mend() -> None:
    with (
        asked_of(lambda call: call.answer("x")) as (backend, server),
        pytest.raises(CounterpointError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ):
        backend.load_adapter("mine", "/adapters/mine")
    assert server.posted == [("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "/adapters/mine"})]


def test_a_folder_that_the_server_does_not_find_is_not_taken_for_loading_disabled() -> None:
    with asked_of(lambda call: call.answer("x")) as (backend, server):
        said = {
            "message": "Loading lora mine failed: No adapter found for /adapters/mine",
            "type": "NotFoundError",
        }
        server.other = lambda call: call.status(404, json.dumps({"error": said}))
        with pytest.raises(CounterpointError, match="finds no adapter in /adapters/mine"):
            backend.load_adapter("mine", "/adapters/mine")


def test_what_was_known_of_a_server_holds_while_its_list_fails_for_a_moment() -> None:
    with asked_of(lambda call: call.answer("Still here.")) as (backend, server):
        backend.offer()
        backend._offer.doubt()
        server.listed = lambda call: call.status(401, '{"error": {"message": "not now"}}')
        assert text_of(list(backend.stream([request()]))) == "Still here."


def test_panes_that_need_the_list_look_once_together() -> None:
    looks: list[Call] = []

    def listed(call: Call) -> None:
        looks.append(call)
        call.status(200, json.dumps({"object": "list", "data": call.server.models}))

    with asked_of(lambda call: call.answer("x")) as (backend, server):
        server.listed = listed
        list(backend.stream([request(str(number)) for number in range(4)]))
    assert len(looks) == 1


@pytest.mark.parametrize(
    "listed", ["[" * 200_000, '{"data": [{"id": "a\\ud800"}]}', json.dumps({"data": [{"id": "a" * 2000}]})]
)
def test_a_list_that_nobody_can_read_has_no_model(listed: str) -> None:
    with asked_of(lambda call: call.answer("x")) as (backend, server):
        server.listed = lambda call: call.status(200, listed)
        with pytest.raises(WorkFailed, match=r"offers no model|no answer of the OpenAI API"):
            backend.offer()
        backend.status().message.encode()


def a_list_that_never_ends(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
    call.trickle(b" ")


def test_a_list_that_never_ends_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_offer, "CONNECT_S", 0.2)
    with asked_of(lambda call: call.answer("x"), silence_s=0.3) as (backend, server):
        server.listed = a_list_that_never_ends
        assert "did not tell what it has within 0.3 s: see that it runs" in end_message(backend)
        with pytest.raises(WorkFailed, match=r"within 0\.2 s"):
            backend.offer(fresh=True)
        assert server.asked == []
        assert server.gone.wait(10), "the server writes to nobody"


def test_a_server_whose_list_never_ended_is_back_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "CONNECT_S", 0.2)
    looks: list[Call] = []

    def ends_at_the_third_look(call: Call) -> None:
        looks.append(call)
        if len(looks) < 3:
            a_list_that_never_ends(call)
        call.status(200, json.dumps({"data": call.server.models}))

    circuit = Circuit(failures=1, pause_s=0.01)
    with asked_of(lambda call: call.answer("x"), silence_s=0.2, circuit=circuit) as (backend, server):
        server.listed = ends_at_the_third_look
        end_message(backend)
        assert backend.status().state == "failed"
        wait_until(lambda: backend.status().state == "ready")
        assert len(looks) == 3


def test_an_adapter_that_never_comes_is_not_waited_for_for_ever() -> None:
    with asked_of(lambda call: call.answer("x"), silence_s=0.2) as (backend, server):
        server.other = a_list_that_never_ends
        with pytest.raises(WorkFailed, match=r"has not loaded it within 0\.2 s"):
            backend.load_adapter("mine", "/adapters/mine")
