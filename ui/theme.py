"""The look: one theme, light and dark, from fonts that are on the machine already."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

CSS = Path(__file__).with_name("style.css")
SCRIPT = Path(__file__).with_name("page.js")
REPORT_CSS = Path(__file__).parents[1] / "comparison" / "measure" / "report" / "report.css"
"""Of a measurement's report, which looks the same in the page as in a file of its own."""

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Helvetica Neue", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

_INK = colors.Color(
    name="ink",
    c50="#f7f7f5",
    c100="#efeeeb",
    c200="#e3e1dc",
    c300="#cfccc5",
    c400="#a09c93",
    c500="#77736b",
    c600="#5a574f",
    c700="#403e39",
    c800="#26262a",
    c900="#1a1b1f",
    c950="#121316",
)


class Counterpoint(gr.themes.Base):
    """Warm greys, white cards, one accent. Families' colours live in style.css."""

    def __init__(self) -> None:
        super().__init__(
            primary_hue=colors.indigo,
            secondary_hue=colors.indigo,
            neutral_hue=_INK,
            text_size=sizes.text_md,
            spacing_size=sizes.spacing_md,
            radius_size=sizes.radius_md,
            font=_SANS,
            font_mono=_MONO,
        )
        super().set(
            body_background_fill="*neutral_50",
            body_background_fill_dark="*neutral_950",
            body_text_color="*neutral_900",
            body_text_color_dark="#ecebe7",
            body_text_color_subdued="*neutral_600",
            body_text_color_subdued_dark="#a9a69d",
            background_fill_primary="white",
            background_fill_primary_dark="*neutral_900",
            background_fill_secondary="*neutral_50",
            background_fill_secondary_dark="*neutral_950",
            block_background_fill="white",
            block_background_fill_dark="*neutral_900",
            block_border_width="0px",
            block_shadow="none",
            block_label_background_fill="transparent",
            block_label_background_fill_dark="transparent",
            block_label_text_color="*neutral_600",
            block_label_text_color_dark="#a9a69d",
            block_title_background_fill="transparent",
            block_title_background_fill_dark="transparent",
            block_title_border_width="0px",
            block_title_padding="0px",
            block_title_text_color="*neutral_600",
            block_title_text_color_dark="#a9a69d",
            block_title_text_weight="500",
            border_color_primary="*neutral_200",
            border_color_primary_dark="#34353b",
            input_background_fill="white",
            input_background_fill_dark="*neutral_900",
            input_border_color="*neutral_300",
            input_border_color_dark="#3d3e45",
            input_border_color_focus="*primary_500",
            input_border_color_focus_dark="*primary_400",
            input_border_width="1px",
            input_placeholder_color="*neutral_500",
            input_placeholder_color_dark="#8b8880",
            button_primary_background_fill="*primary_600",
            button_primary_background_fill_hover="*primary_700",
            button_primary_background_fill_dark="*primary_500",
            button_primary_background_fill_hover_dark="*primary_400",
            button_primary_text_color="white",
            button_secondary_background_fill="white",
            button_secondary_background_fill_hover="*neutral_100",
            button_secondary_background_fill_dark="#222328",
            button_secondary_background_fill_hover_dark="#2c2d33",
            button_secondary_border_color="*neutral_300",
            button_secondary_border_color_dark="#3d3e45",
            button_secondary_text_color="*neutral_800",
            button_secondary_text_color_dark="#ecebe7",
            button_large_text_weight="600",
            button_small_text_weight="500",
            layout_gap="10px",
            block_padding="10px 12px",
        )
