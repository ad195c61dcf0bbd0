"""Gradio's Blocks, without the work that a repaint does not need."""

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
