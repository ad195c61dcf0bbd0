"""A conversation that is handed on says what was said, and does nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from logbook.conversations import Asked, Conversation, End
from logbook.document import Panes, file_name, markdown, replay
from logbook.logbook import Logbook

EVIL = "<script>alert(1)</script> ``` </pre> **x** & \u2028 end"


@pytest.fixture
def talk(tmp_path: Path) -> tuple[Conversation, Panes]:
    kept = Logbook(tmp_path).conversations
    begun = kept.begin(
        "compare",
        [
            Asked(0, f"Why? {EVIL}", "base", "Bare", "bare"),
            Asked(1, f"Why? {EVIL}", "adapter:support", f"Tuned {EVIL}", "tuned", 1.5),
        ],
    )
    receipt = {"seed": 7, "prompt_tokens": 11, "completion_tokens": 3, "adapter_sha256": "ab" * 32}
    kept.end(begun.turns[0], End("done", f"So. {EVIL}", receipt=receipt, timing=((0.5, 2), (1.25, 4))))
    kept.end(begun.turns[1], End("stopped", "Be", "Stopped.", timing=((0.7, 2),)))
    again = Asked(0, "And then?", "base", "Bare", "bare", parent=begun.turns[0])
    kept.begin("compare", [again], begun.conversation)
    return kept.get(begun.conversation), kept.panes(begun.conversation)


def test_markdown_has_every_word_and_none_of_it_is_markup(talk: tuple[Conversation, Panes]) -> None:
    text = markdown(*talk)
    assert f"````text\nSo. {EVIL}\n````" in text
    assert "> And then?" in text
    assert "*Stopped\\.*" in text
    assert "This was being answered" in text
    assert "seed 7 · prompt tokens 11 · tokens 3 · adapter sha256 abababababab" in text
    outside = re.sub(r"````text\n.*?\n````", "", text, flags=re.DOTALL)
    assert "**Tuned \\<script\\>" in outside


def test_the_page_needs_nothing_else_and_runs_no_script_but_its_own(talk: tuple[Conversation, Panes]) -> None:
    page = replay(*talk)
    [script] = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in page
    assert "alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"(?:src|href)=|url\(|@import", page)


def test_the_page_has_the_timing_that_was_measured_and_what_was_asked_together_stands_together(
    talk: tuple[Conversation, Panes],
) -> None:
    first, second = re.findall(r'<section class="round">(.*?)</section>', replay(*talk), flags=re.DOTALL)
    assert first.count('class="question"') == 1
    assert re.findall(r'data-timing="([^"]*)"', first) == ["[[0.5, 2], [1.25, 4]]", "[[0.7, 2]]"]
    assert "And then?" in second


def test_a_file_is_called_by_the_title_as_any_system_takes_it(talk: tuple[Conversation, Panes]) -> None:
    assert re.fullmatch(r"why-script-alert-1-script[\w-]{0,40}\.md", file_name(talk[0], "md"))
