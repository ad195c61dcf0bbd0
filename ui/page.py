"""The page: header, tabs, and the server that shows it."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from typing import Any

# Read when Gradio is imported: no figures about use leave this machine.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Route

from backends.contract import Status
from errors import CounterpointError
from ui import uploads
from ui.adapters import Adapters
from ui.blocks import Page
from ui.chat import Chat
from ui.compare import Compare
from ui.gatekeeper import EVERYWHERE, LOCAL, Gatekeeper, Refusal, allowed_hosts, host_name
from ui.guard import QUIET, guarded
from ui.history import History
from ui.measure import Measure
from ui.parts import Parts
from ui.personas import Personas
from ui.prompt_store import PromptStore
from ui.servers import Servers
from ui.theme import CSS, REPORT_CSS, SCRIPT, Counterpoint
from ui.train import Train
from ui.translations import LANGUAGES
from ui.visitor import Visitors
from ui.words import label, say

MAX_UPLOAD = "1gb"
MAX_WAITING = 64
"""Events that may wait; what comes beyond is refused by Gradio with a line."""
MAX_AT_ONCE = 96
"""Handlers of one kind that run at once: more questions than the engine has rows and places in its queue, so
that who has to wait is told by the engine which place is theirs, and does not wait unseen in Gradio's queue."""
MAX_THREADS = 128
"""Every question under way holds a thread while it waits for the next token; the rest is for everything else."""


def build(parts: Parts) -> gr.Blocks:
    """The whole page, not yet served."""
    with Page(
        title="Counterpoint",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, 24 * 3600),
    ) as page:
        drafts = gr.State({})
        status, store, timer = _header(parts)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab(label("tab_compare"), id="compare") as tab:
                compare = Compare(parts, drafts, tab)
            with gr.Tab(label("tab_chat"), id="chat") as tab:
                chat = Chat(parts, drafts, tab)
            with gr.Tab(label("tab_history"), id="history") as history_tab:
                history = History(parts, compare, chat, tabs)
            with gr.Tab(label("tab_personas"), id="personas") as personas_tab:
                personas = Personas(parts, drafts)
            with gr.Tab(label("tab_train"), id="train") as train_tab:
                train = Train(parts)
            with gr.Tab(label("tab_measure"), id="measure") as measure_tab:
                measure = Measure(parts)
            with gr.Tab(label("tab_adapters"), id="adapters") as adapters_tab:
                adapters = Adapters(parts)
            with gr.Tab(label("tab_servers"), id="servers") as servers_tab:
                servers = Servers(parts)
        pickers = [*compare.pickers, chat.picker]
        personas.on_change(pickers)
        adapters.on_change(pickers)
        servers.on_change(pickers)
        train.on_change(pickers)
        personas_tab.select(guarded(personas.refresh), personas.refresh_inputs, personas.refreshed, **QUIET)
        adapters_tab.select(guarded(adapters.refresh), adapters.list, adapters.refreshed, **QUIET)
        train_tab.select(guarded(train.refresh), train.list, train.refreshed, **QUIET)
        history.on_select(history_tab)
        measure.on_select(measure_tab)
        servers.on_select(servers_tab)
        _load(page, parts, compare, chat, measure, status, store, timer)
    return page


def serve(
    parts: Parts,
    host: str,
    port: int,
    open_browser: bool = False,
    routes: Sequence[Route] = (),
    middleware: Sequence[Middleware] = (),
    refusal: Refusal | None = None,
    public_hosts: Iterable[str] = (),
) -> None:
    """Serves the page, and `routes` beside it, until it is interrupted; `middleware` stands before both, and
    `refusal` is how those under /v1 refuse. `public_hosts` are the names under which a proxy serves it.

    Raises CounterpointError where the address is taken.
    """
    uploads.make_private()
    page = build(parts)
    page.queue(
        max_size=MAX_WAITING, default_concurrency_limit=MAX_AT_ONCE, api_open=False, status_update_rate=5
    )
    try:
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            strict_cors=True,
            show_error=False,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            num_workers=0,
            max_threads=MAX_THREADS,
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=MAX_UPLOAD,
            theme=Counterpoint(),
            css_paths=[CSS, REPORT_CSS],
            js=SCRIPT.read_text(encoding="utf-8"),
            i18n=gr.I18n(**LANGUAGES),
            app_kwargs={
                "middleware": [
                    Middleware(Gatekeeper, hosts=allowed_hosts(host, public_hosts), refusal=refusal),
                    *middleware,
                    *([Middleware(Visitors)] if parts.public else []),
                ],
                "routes": list(routes),
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
            },
        )
    except OSError as error:
        raise CounterpointError(
            f"Cannot serve on {host}:{port}: {error}. Choose another port with --port."
        ) from None
    # Of every address of this machine, the one that surely works where this line is read.
    shown = "127.0.0.1" if host_name(host) in LOCAL | EVERYWHERE else host
    print(f"Counterpoint: http://{shown}:{page.server_port}", flush=True)
    try:
        page.block_thread()
    finally:
        page.close(verbose=False)


def _header(parts: Parts) -> tuple[gr.HTML, gr.HTML, gr.Timer]:
    with gr.Row(elem_classes=["cp-header"]):
        gr.HTML(say("brand"), elem_classes=["cp-brand"], js_on_load=None)
        status = gr.HTML(status_html(parts.backend.status()), elem_classes=["cp-status"], js_on_load=None)
        # A component of its own: the status is read out when it changes, this need not be.
        store = gr.HTML("", elem_classes=["cp-store"], js_on_load=None)
        with gr.Row(elem_classes=["cp-toggles"]):
            large = gr.Button(
                label("demo_mode"),
                size="sm",
                scale=0,
                min_width=0,
                elem_id="large-toggle",
                elem_classes=["cp-tool"],
            )
            dark = gr.Button(
                label("dark"),
                size="sm",
                scale=0,
                min_width=0,
                elem_id="dark-toggle",
                elem_classes=["cp-tool"],
            )
    large.click(None, None, None, js="() => counterpoint.toggleLarge()")
    dark.click(None, None, None, js="() => counterpoint.toggleDark()")
    return status, store, gr.Timer(1.0)


def status_html(status: Status, training: str | None = None, measuring: str | None = None) -> str:
    """What the backend is doing, escaped, with a bar while it loads, and which run makes answers slower."""
    percent = 0 if status.progress is None else round(100 * min(max(status.progress, 0.0), 1.0))
    bar = ""
    if status.state == "loading":
        kind = "" if status.progress is not None else ' class="cp-unsure"'
        bar = f'<progress max="100" value="{percent}"{kind} aria-label="{html.escape(say("loading"))}"></progress>'
    slower = f" · {say('train_going_on', name=training)}" if training else ""
    slower += f" · {say('measure_going_on', name=measuring)}" if measuring else ""
    return (
        f'<div class="cp-state cp-{status.state}" role="status"><span class="cp-dot"></span>'
        f"<span>{html.escape(status.message + slower)}</span>{bar}</div>"
    )


def _load(
    page: gr.Blocks,
    parts: Parts,
    compare: Compare,
    chat: Chat,
    measure: Measure,
    status: gr.HTML,
    store: gr.HTML,
    timer: gr.Timer,
) -> None:
    prompt_store, arrangement = PromptStore(parts.backend), compare.arrangement

    def tick(before: str, stored: str, *noticed: Any) -> Any:
        now = parts.backend.status()
        in_chat, in_measure, (known, link, question, *values) = noticed[:3], noticed[3:5], noticed[5:]
        updates = chat.catch_up(*in_chat) | arrangement.catch_up(known, link, question, values)
        updates |= measure.catch_up(*in_measure)
        shown = status_html(now, parts.runs.going_on(), parts.measurements.going_on())
        if shown != before:
            updates[status] = shown
            # While it loads a person watches; afterwards it is enough to notice a restart.
            updates[timer] = gr.Timer(1.0 if now.state == "loading" else 4.0)
        line = prompt_store.line()
        if line != (stored or ""):
            updates[store] = line
        return updates or gr.skip()

    in_chat = [chat.known, chat.picker, chat.state]
    in_measure = [measure.list, measure.told]
    in_compare = [arrangement.known, arrangement.link, compare.question, *compare.inputs]
    caught_up = [*chat.caught_up, *arrangement.caught_up]
    timer.tick(
        guarded(tick),
        [status, store, *in_chat, *in_measure, *in_compare],
        [status, store, timer, *caught_up, *measure.refreshed],
        **QUIET,
    )

    def on_load(request: gr.Request) -> Any:
        return chat.on_load() | arrangement.on_load(request)

    page.load(guarded(on_load), None, caught_up, **QUIET)
