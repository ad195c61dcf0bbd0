"""Other people's clients, as they come: the `llm` command and LangChain. OpenAI's own client is in test_api.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api import access
from errors import CounterpointError

QUESTION = "Why is the sky blue?"


def test_the_llm_command_asks_any_mode(tiny_api: str, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(
        "".join(
            f"- {{model_id: {name}, model_name: '{mode}', api_base: '{tiny_api}/v1'}}\n"
            for name, mode in (("bare", "base"), ("tuned", "adapter:one"))
        )
    )
    answers = []
    for name, more in (("bare", []), ("tuned", []), ("tuned", ["--no-stream"])):
        settings = ["-o", "temperature", "0", "-o", "max_tokens", "12", *more]
        ran = subprocess.run(
            [sys.executable, "-m", "llm", "prompt", "-m", name, *settings, QUESTION],
            env={**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        answers.append(ran.stdout)
    assert answers[0] != answers[1] == answers[2]


def test_langchain_invokes_and_streams_with_usage(tiny_api: str) -> None:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(
        model="adapter:one+persona:teller",
        base_url=f"{tiny_api}/v1",
        api_key="none",
        temperature=0,
        max_completion_tokens=12,
        stream_usage=True,
    )
    whole = chat.invoke(QUESTION)
    chunks = list(chat.stream(QUESTION))
    assert whole.content == "".join(str(chunk.content) for chunk in chunks) != ""
    assert whole.usage_metadata is not None
    used = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert used[-1]["output_tokens"] == whole.usage_metadata["output_tokens"] > 0
    with pytest.raises(Exception, match="is not a mode"):
        chat.model_copy(update={"model_name": "gpt-4"}).invoke(QUESTION)


def test_keys_come_from_one_variable_and_a_guessable_one_is_refused() -> None:
    assert access.keys({}) == ()
    assert access.keys({access.VARIABLE: f" {'a' * 16}, {'b' * 20},"}) == ("a" * 16, "b" * 20)
    with pytest.raises(CounterpointError, match="at least 16") as error:
        access.keys({access.VARIABLE: "hunter2"})
    assert "hunter2" not in str(error.value)
