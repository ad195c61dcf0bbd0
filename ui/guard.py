"""No handler shows a traceback: what a person can mend is one line in the page, the rest goes to the log."""

from __future__ import annotations

import functools
import html
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from errors import CounterpointError
from ui.words import say

log = logging.getLogger("counterpoint")
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How an event is wired that shows no spinner and is no part of the API."""


def warn(message: str) -> None:
    """One line for the person, until they close it or it has had time to be read."""
    # Gradio renders a toast as HTML, and a message may quote what a person typed.
    gr.Warning(html.escape(message).replace("\n", "<br>"), duration=15, title=say("warning_title"))


def inform(message: str) -> None:
    gr.Info(html.escape(message), duration=5, title=say("info_title"))


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, but an error leaves every output as it is and becomes a line in the page."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streaming(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except GeneratorExit:
                raise
            except Exception as error:
                _tell(error)
                yield gr.skip()

        return streaming

    @functools.wraps(handler)
    def single(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            _tell(error)
            return gr.skip()

    return single


def _tell(error: Exception) -> None:
    if isinstance(error, CounterpointError):
        warn(str(error))
    else:
        log.error("a handler failed", exc_info=error)
        warn(say("unexpected"))
