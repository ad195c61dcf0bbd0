"""Gradio's Blocks, without the work that a repaint does not need, and without the updates that it loses."""

from __future__ import annotations

import copy
from typing import Any

import gradio as gr
from gradio.blocks import Block, BlockFunction
from gradio.state_holder import SessionState


class Page(gr.Blocks):
    """Leaves alone the outputs that a handler's dictionary does not name.

    Gradio 6.31 makes each of them anew at every repaint, JSON schema included: 23 ms for the outputs of six
    panes, 20 times a second, on the cores that the base computes on.
    """

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list[Any] | dict[Any, Any], state: SessionState | None
    ) -> list[Any]:
        if not (isinstance(predictions, dict) and any(isinstance(key, Block) for key in predictions)):
            return await super().postprocess_data(block_fn, predictions, state)
        values = {component._id: value for component, value in predictions.items()}
        named = copy.copy(block_fn)
        named.outputs = [block for block in block_fn.outputs if block._id in values]
        given: Any = [values[block._id] for block in named.outputs]
        processed = iter(await super().postprocess_data(named, given if len(given) > 1 else given[0], state))
        return [next(processed) if block._id in values else gr.skip() for block in block_fn.outputs]

    def handle_streaming_diffs(
        self,
        block_fn: BlockFunction,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """Sends an update of a component's properties whole, never as edits of the update before it.

        The browser edits the earlier update in place. Where two repaints come so close that it has not shown
        the first yet, the first would be edited away: a pane that has ended would look busy for ever.
        """
        whole = list(data)
        first = session_hash is None or run not in self.pending_diff_streams[session_hash]
        sent = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        if first or final or simple_format:
            return sent
        return [
            [["replace", [], value]] if edits and _is_update(value) else edits
            for value, edits in zip(whole, sent, strict=True)
        ]


def _is_update(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"
