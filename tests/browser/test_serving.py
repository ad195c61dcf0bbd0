"""The served app over plain HTTP: who is let in, and what it gives away."""

from __future__ import annotations

import httpx
import pytest

from tests.browser.conftest import App

JOIN = "gradio_api/queue/join"


@pytest.mark.parametrize("path", ["", "config", JOIN])
def test_a_foreign_host_is_refused(app: App, path: str) -> None:
    assert httpx.get(app.address + path, headers={"host": "evil.example"}).status_code == 403


def test_the_api_refuses_a_foreign_origin_in_its_own_shape(app: App) -> None:
    asked = httpx.post(
        f"{app.address}v1/chat/completions", headers={"origin": "http://evil.example"}, json={}
    )
    assert asked.status_code == 403
    assert asked.json()["error"]["type"] == "permission_error"


def test_another_web_page_cannot_start_anything(app: App) -> None:
    given = {"data": ["hello"], "fn_index": 0, "session_hash": "x"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert httpx.post(app.address + JOIN, json=given, headers={"origin": origin}).status_code == 403


def test_files_of_the_machine_are_not_served(app: App) -> None:
    for path in ("/etc/passwd", str(app.data / "serve.log"), "app.py"):
        assert httpx.get(f"{app.address}gradio_api/file={path}").status_code in (403, 404)


def test_the_page_names_no_other_machine(app: App) -> None:
    page = httpx.get(app.address)
    assert "fonts.googleapis" not in page.text
    assert "content-security-policy" in page.headers
    assert httpx.get(app.address + "docs").status_code == 404


def test_only_the_two_conversations_can_be_called_by_name(app: App) -> None:
    named = httpx.get(app.address + "gradio_api/info").json()["named_endpoints"]
    assert sorted(named) == ["/chat", "/compare"]
