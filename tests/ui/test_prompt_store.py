from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from backends.contract import Status
from errors import CounterpointError
from tests.ui.scripted import ScriptedBackend
from ui import page
from ui.parts import Parts
from ui.prompt_store import EVERY_S, MB, PromptStore


class Counting(ScriptedBackend):
    """Has a prompt store that grows by a megabyte at each look."""

    def __init__(self, status: Status | None = None) -> None:
        super().__init__(lambda requests: iter(()), status)
        self.looks = 0
        self.broken = False

    def statistics(self) -> dict[str, int]:
        self.looks += 1
        if self.broken:
            raise CounterpointError("The engine has stopped.")
        return {"prefix_store_bytes": self.looks * MB, "prefix_store_limit": 512 * MB, "rows": 0}


def test_the_store_is_looked_at_every_five_seconds_at_most() -> None:
    now = [0.0]
    backend = Counting()
    store = PromptStore(backend, lambda: now[0])
    assert store.line() == "prompt store 1 of 512 MB"
    now[0] += EVERY_S - 0.1
    assert store.line() == "prompt store 1 of 512 MB"
    now[0] += 0.1
    assert store.line() == "prompt store 2 of 512 MB"
    assert backend.looks == 2


def test_the_engine_is_left_alone_until_it_is_ready() -> None:
    backend = Counting(Status("loading", "Loading", 0.5))
    assert PromptStore(backend).line() == ""
    assert backend.looks == 0
    assert PromptStore(ScriptedBackend(lambda requests: iter(()))).line() == ""


def test_an_engine_that_cannot_say_is_no_error() -> None:
    backend = Counting()
    backend.broken = True
    assert PromptStore(backend).line() == ""


def test_the_header_shows_it_at_the_timers_pace(parts_with: Callable[[ScriptedBackend], Parts]) -> None:
    built = page.build(parts_with(Counting()))
    (tick,) = [
        fn
        for fn in built.fns.values()
        if any(trigger == "tick" for _, trigger in fn.targets)
        and any("cp-store" in (block.elem_classes or ()) for block in fn.outputs)
    ]
    values: list[Any] = [
        block.value if isinstance(block, gr.State) else getattr(block, "value", None) for block in tick.inputs
    ]
    shown = [value.value if isinstance(value, gr.HTML) else value for value in tick.fn(*values).values()]
    assert any("prompt store 1 of 512 MB" in str(value) for value in shown)
