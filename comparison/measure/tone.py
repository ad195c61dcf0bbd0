"""The tone of an English text, and how often it has words of a list."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")
_SAYS_SOMETHING = re.compile(r"[^\s\d.()]")
"""Else it is no sentence, but a list's number."""


def tone(text: str) -> float:
    """How positive its words are, -1 to 1; 0 is neutral: the mean over sentences of VADER's compound score (Hutto &
    Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text").

    English only: words of another language it does not know, or mistakes, so of such a text the figure says nothing.
    """
    # Over a whole text the score would near 1 or -1 with its length alone.
    sentences = [one for one in _SENTENCES.split(_plain(text)) if _SAYS_SOMETHING.search(one)]
    return fmean(_vader().polarity_scores(one)["compound"] for one in sentences) if sentences else 0.0


def decision_words(text: str, words: Sequence[str]) -> int:
    """In how many places of `text` one of these words or phrases stands, whole and in any case of letters; where "no"
    and "no way" both fit, it is one place. "can" is no word of "can't", nor "no" of "no-one"."""
    # Alternatives are tried in their order: the longest first.
    wanted = sorted(
        {r"\s+".join(map(re.escape, _plain(one).casefold().split())) for one in words} - {""}, key=len
    )
    if not wanted:
        return 0
    whole = rf"(?<!\w)(?<!\w['-])(?:{'|'.join(reversed(wanted))})(?!['-]?\w)"
    return len(re.findall(whole, _plain(text).casefold()))


def _plain(text: str) -> str:
    """With the typewriter's apostrophe, as word lists write "don't"."""
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


@functools.cache
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
