"""One running app on the real base, and Chromium: shared by all browser tests.

A test gets a page of its own in a fresh context. Without a browser these tests are skipped, but in CI
(CI=true) they fail: there, nothing may be skipped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.local.fetch import cache_folder, locate
from tests import tiny

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
START_S = 240
"""Longest wait for the app, in seconds: a machine's first start fetches and converts the base."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass(frozen=True)
class App:
    """The served app: its address, its data folder, and an adapter's folder that it does not know yet."""

    address: str
    data: Path
    visitor: Path


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data = tmp_path_factory.mktemp("data")
    trial, visitor = _adapters(data, tmp_path_factory.mktemp("elsewhere"))
    assert trial.is_dir()
    with serving(data, data / "serve.log") as address:
        yield App(address, data, visitor)


@contextmanager
def serving(data: Path, log: Path, *options: str) -> Iterator[str]:
    """The address of an app on this data folder, as soon as it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "app.py", "serve", "--port", str(port), "--data-dir", str(data), *options],
            cwd=ROOT,
            # The real base takes all cores, as it does for a user.
            env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
            stdout=told,
            stderr=subprocess.STDOUT,
        )
        try:
            address = f"http://127.0.0.1:{port}/"
            _wait_for(address, process, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _adapters(data: Path, elsewhere: Path) -> tuple[Path, Path]:
    """Random adapters for the real base: "trial" and the broken "dora" in the data folder, and a visitor."""
    facts = locate("embedded", cache_folder())
    targets = ("q_proj", "v_proj")
    trial = tiny.make_adapter(data / "adapters" / "trial", facts.folder, targets=targets, scale=0.03)
    tiny.edit_config(trial, base_model_name_or_path=facts.id)
    broken = Path(shutil.copytree(trial, data / "adapters" / "dora"))
    tiny.edit_config(broken, use_dora=True)
    visitor = Path(shutil.copytree(trial, elsewhere / "visitor"))
    return trial, visitor


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the app ended at once:\n{log.read_text()[-2000:]}")
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the app did not answer within {START_S} s:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        _no_browser("playwright is not installed")
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(
                executable_path=CHROMIUM if CHROMIUM.exists() else None, args=FLAGS
            )
        except Error as error:
            _no_browser(f"no Chromium: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


def _no_browser(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(app: App, browser: Any) -> Iterator[OpenPage]:
    """open_page(query="", **context): a page of the shared app, in a context of its own."""
    with pages(browser, app.address) as open_one:
        yield open_one


@contextmanager
def pages(browser: Any, address: str) -> Iterator[OpenPage]:
    """Opens pages of an app, each in a context of its own; none may call anyone else."""
    contexts = []
    strangers: list[str] = []

    def watch(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            strangers.append(request.url)

    def open_one(query: str = "", **context: Any) -> Any:
        settings: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, **context}
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(180_000)
        page.on("request", watch)
        page.goto(address + query)
        page.get_by_label("Your question").wait_for()
        page.wait_for_function("window.counterpoint !== undefined")
        page.wait_for_function("document.querySelector('.cp-state.cp-ready') !== null")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert strangers == [], "the page called home"
