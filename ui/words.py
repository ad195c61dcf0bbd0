"""The page's words, by key. `say` is for texts made here, `label` for what Gradio translates in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ui.translations import LANGUAGES

if TYPE_CHECKING:
    from gradio.i18n import I18nData

ENGLISH = LANGUAGES["en"]


def say(key: str, **values: Any) -> str:
    """The English text with its values filled in."""
    return ENGLISH[key].format(**values)


def label(key: str) -> I18nData:
    """A text that the browser shows in its own language, where a translation has one. Raises KeyError."""
    from gradio.i18n import I18nData

    if key not in ENGLISH:
        raise KeyError(key)
    return I18nData(key)
