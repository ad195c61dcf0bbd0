from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from api.errors import refusal
from errors import CounterpointError
from ui.gatekeeper import MAX_BODY, Gatekeeper, allowed_hosts, public_names

reached: list[str] = []


@pytest.fixture
def client() -> TestClient:
    reached.clear()

    def endpoint(request: object) -> PlainTextResponse:
        reached.append("yes")
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])])
    return TestClient(Gatekeeper(app, allowed_hosts("127.0.0.1"), refusal), base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "LOCALHOST"])
def test_its_own_names_are_served(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:7860", "", "["])
def test_a_foreign_host_is_refused_before_anything_runs(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 403
    assert reached == []


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:9999",
        "http://localhost:7860",
        "file://",
        "",
        "http://[",
    ],
)
def test_a_foreign_origin_is_refused_before_anything_runs(client: TestClient, origin: str) -> None:
    assert client.post("/", headers={"origin": origin}).status_code == 403
    assert reached == []


def test_its_own_origin_is_served(client: TestClient) -> None:
    assert client.post("/", headers={"origin": "http://127.0.0.1:7860"}).status_code == 200


def test_the_public_names_of_a_proxy_are_served_beside_its_own() -> None:
    hosts = allowed_hosts("127.0.0.1", public_names("Counterpoint.example.org, lab"))
    assert hosts is not None
    assert {"counterpoint.example.org", "lab", "127.0.0.1"} <= hosts
    assert "example.org" not in hosts
    assert allowed_hosts("0.0.0.0", {"lab"}) is None


@pytest.mark.parametrize(
    "name",
    [
        "https://lab.example",
        "lab:443",
        "lab/",
        "*",
        "*.example",
        "-lab",
        "lab.",
        "a b",
        "1.2.3.400",
        "münchen",
        "x" * 64,
        "",
        ",",
    ],
)
def test_what_is_no_name_of_a_host_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(CounterpointError, match=r"^--public-host '.*': give the name alone .*\.$"):
        public_names(name)


def test_another_page_may_link_here_but_not_fetch(client: TestClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    fetch = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert client.get("/", headers=fetch).status_code == 403


def test_nothing_is_loaded_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "img-src 'self' data: blob:" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


def test_a_body_larger_than_any_question_is_refused_before_it_is_read(client: TestClient) -> None:
    assert client.post("/", content=b"x" * (MAX_BODY + 1)).status_code == 413
    assert client.post("/", content=iter([b"x"] * 3)).status_code == 413, (
        "one that does not say how large it is"
    )
    assert reached == []
    assert client.post("/", content=b"x" * 1000).status_code == 200


def test_a_refusal_to_who_asks_the_api_has_its_shape(client: TestClient) -> None:
    for answer, status in (
        (client.post("/v1/chat/completions", headers={"origin": "https://evil.example"}), 403),
        (client.post("/v1/chat/completions", content=b"x" * (MAX_BODY + 1)), 413),
    ):
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
