"""An answer's text as its tokens arrive: whole characters only, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class AnswerText:
    """Turns tokens into text piece by piece. Text that may yet become a stop text is held back."""

    def __init__(self, tokenizer: Any, stop: Sequence[str]):
        self.tokens: list[int] = []
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._window = 0  # tokens from here on are decoded again: a token's text can depend on the one before
        self._decoded = 0  # tokens up to here have given their text
        self._held = ""

    def push(self, token: int) -> str:
        """Takes the next token; returns the text that can be shown now. Sets `stopped` at a stop text."""
        self.tokens.append(token)
        before = self._text(self._window, self._decoded)
        after = self._text(self._window, len(self.tokens))
        if after.endswith(INCOMPLETE):
            return ""
        self._window, self._decoded = self._decoded, len(self.tokens)
        return self._release(after[len(before) :])

    def finish(self) -> str:
        """What was held back, once no more tokens come."""
        before = self._text(self._window, self._decoded)
        rest = self._text(self._window, len(self.tokens))[len(before) :]
        self._decoded = len(self.tokens)
        shown = self._release(rest)
        if not self.stopped:
            shown, self._held = shown + self._held, ""
        return shown

    def _text(self, start: int, end: int) -> str:
        text: str = self._tokenizer.decode(self.tokens[start:end], skip_special_tokens=True)
        return text

    def _release(self, text: str) -> str:
        self._held += text
        found = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
