from __future__ import annotations

from backends.contract import Rendered
from comparison.chain import StepBegan
from ui import markup, transcript
from ui.transcript import PaneState, Turn


def turn(question: str, answer: str, state: str = "done", **more: object) -> Turn:
    return Turn(question, "base", "Bare", "bare", state, answer, **more)  # type: ignore[arg-type]


def test_history_holds_answered_and_stopped_turns_but_no_failed_ones() -> None:
    state = PaneState(
        (
            turn("one", "1"),
            turn("two", "", "failed"),
            turn("three", "3 hal", "stopped"),
            turn("four", "", "stopped"),
        )
    )
    assert [message["content"] for message in transcript.history(state)] == ["one", "1", "three", "3 hal"]


def test_the_speed_line_leaves_out_what_is_not_known() -> None:
    assert transcript.speed_line(0.214, 27.44, 83) == "0.21 s to first token · 27.4 tokens/s · 83 tokens"
    assert transcript.speed_line(0.2, None, 1) == "0.20 s to first token · 1 token"


def test_what_a_person_typed_is_shown_as_typed() -> None:
    assert markup.plain("<img src=x> **no** {{7*7}}") == r"\<img src\=x\> \*\*no\*\* \{\{7\*7\}\}"
    assert markup.plain("a\n    b") == "a  \n&nbsp;&nbsp;&nbsp;&nbsp;b"


def test_a_prompt_cannot_end_its_code_block_early() -> None:
    block = markup.fenced("text\n```\n# not a heading\n````\nend")
    fence = block.split("\n")[0].removesuffix("text")
    assert fence == "`" * 5
    assert block.count(fence) == 2


def test_a_receipt_shows_every_field_and_the_exact_prompt() -> None:
    given = {
        "base": "some/base",
        "base_sha256": "ab" * 32,
        "quantization": "nf4",
        "adapter": None,
        "adapter_sha256": None,
        "adapter_scale": None,
        "persona": "support-desk",
        "persona_sha256": "cd" * 32,
        "prompt": "<|im_start|>user\nHi",
        "prompt_sha256": "ef" * 32,
        "sampling": {"temperature": 0.2, "stop": []},
        "seed": 7,
        "prompt_tokens": 12,
        "completion_tokens": 30,
        "ttft_s": 0.25,
        "tokens_per_s": 27.123,
        "backend": "local",
    }
    shown = markup.receipts([turn("Hi", "Hello", receipt=given)])
    for part in ("some/base", "nf4", "abababababababab…", "temperature 0\\.2", "| seed | 7 |", "27.12"):
        assert part in shown.replace("some\\/base", "some/base"), part
    assert "```text\n<|im_start|>user\nHi\n```" in shown


def test_older_answers_are_labelled_with_their_mode() -> None:
    messages = markup.older_messages([turn("Hi *you*", "Hello")])
    assert messages[0]["content"] == r"Hi \*you\*"
    assert messages[1]["content"].startswith("*Bare*\n\n")


def test_that_an_answer_was_cut_off_is_still_told_after_a_follow_up_and_in_a_copy() -> None:
    cut = turn("Why?", "Because", notice="Cut off.")
    assert markup.older_messages([cut])[1]["content"].endswith("Because\n\n*Cut off\\.*")
    assert transcript.copy_text([PaneState((cut,))]).endswith("Because\n\nCut off.\n")


def test_copying_all_gives_the_question_once_and_every_answer_by_its_mode() -> None:
    text = transcript.copy_text(
        [PaneState((turn("Why?", "Because."),)), PaneState((turn("Why?", "So."),)), PaneState()]
    )
    assert text == "> Why?\n\n### Bare\n\nBecause.\n\n### Bare\n\nSo.\n"


def test_a_receipt_of_a_server_tells_what_is_only_claimed_and_what_was_sent() -> None:
    receipt = {
        "base": "org/base",
        "base_sha256": None,
        "adapter": "support",
        "prompt": None,
        "server": "http://gpu:8000/v1, model org/support",
        "claimed": ["base", "adapter"],
        "messages": [{"role": "system", "content": "Be *kind*."}, {"role": "user", "content": "Why?\n```"}],
    }
    turn = Turn(
        "Why?", "gpu/adapter:support", "Tuned on gpu · support", "tuned", "done", "So.", receipt=receipt
    )
    shown = markup.receipt(turn)
    assert "| server | http\\:\\/\\/gpu" in shown
    assert "| only claimed by the server | base\\, adapter |" in shown
    assert "| base sha256 | – |" in shown
    assert "The exact prompt" not in shown
    assert "````text\n[system]\nBe *kind*.\n\n[user]\nWhy?\n```\n````" in shown
    untold = markup.receipt(Turn("W", "m", "L", "bare", "done", "So.", receipt={**receipt, "base": ""}))
    assert "| base | not told |" in untold
    local = markup.receipt(Turn("W", "base", "Bare", "bare", "done", "So.", receipt={"prompt": "P"}))
    assert "claimed" not in local
    assert "| server |" not in local


def test_a_preview_for_a_server_shows_what_it_is_sent_as_that() -> None:
    sent = markup.preview(Rendered("[user]\nWhy?", None, None))
    assert "its own template makes the prompt" in sent
    assert "its own template" not in markup.preview(Rendered("<user>Why?", 3, 100))


OUTLINE = {
    "name": "out_line", "answer": "- *one*\n- </details>", "finish_reason": "length", "prompt_tokens": 9,
    "completion_tokens": 4, "ttft_s": 0.2, "tokens_per_s": 20.0, "prompt": "Outline ```", "prompt_sha256": "ab" * 32,
}  # fmt: skip


def test_while_a_step_is_at_work_the_answer_says_which() -> None:
    step = StepBegan(2, 3, "my_draft")
    assert markup.answer(turn("Q", "", "running", step=step)) == (
        "*Step 2 of 3: my\\_draft*\n\n*Reading the prompt …*"
    )
    assert markup.answer(turn("Q", "So", "running", step=step)) == "*Step 2 of 3: my\\_draft*\n\nSo"
    assert markup.answer(turn("Q", "So", "running", step=StepBegan(1, 1, "only"))) == "So"
    assert markup.answer(turn("Q", "So", step=StepBegan(3, 3, "polish"))) == "So"


def test_earlier_steps_are_unfolded_as_they_were_written_with_their_figures() -> None:
    shown = markup.steps(turn("Q", "So.", steps=(OUTLINE,)))
    assert shown.startswith(
        "<details><summary>Step 1: out_line <span>0.20 s to first token · 20.0 tokens/s · 4 tokens"
    )
    assert "cut off" in shown
    assert r"\- \*one\*" in shown
    assert shown.count("</details>") == 1, "what was written ends no fold"
    assert markup.steps(turn("Q", "So.")) == ""


def test_a_receipt_has_every_steps_exact_prompt_also_of_a_chain_that_failed() -> None:
    given = {"base": "some/base", "prompt": "The last prompt"}
    whole = markup.receipts([turn("Q", "So.", receipt=given, steps=(OUTLINE,))])
    assert whole.index("The last prompt") < whole.index("Step 1: out")
    assert "````text\nOutline ```\n````" in whole
    failed = markup.receipts([turn("Q", "", "failed", steps=(OUTLINE,))])
    assert "Outline ```" in failed
    assert "| base |" not in failed


def test_what_a_step_wrote_on_its_way_is_not_told_as_an_answer() -> None:
    halfway = turn("one", "- an outline", "stopped", step=StepBegan(1, 2, "outline"))
    last = turn("two", "An ans", "stopped", step=StepBegan(2, 2, "polish"))
    told = [message["content"] for message in transcript.history(PaneState((halfway, last)))]
    assert told == ["two", "An ans"]
