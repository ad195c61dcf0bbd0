"""What the tests of the API ask, and how."""

from __future__ import annotations

from typing import Any

from openai import OpenAI

KEY = "a-key-of-24-characters--"
WHY: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
EVERY_MODE = (
    "base", "persona:teller", "persona:plain", "adapter:one", "adapter:two", "adapter:one+persona:teller",
    "adapter:one+persona:plain", "adapter:two+persona:teller", "adapter:two+persona:plain",
)  # fmt: skip


def client(address: str, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)


def greedy(address: str, model: str = "base", **more: Any) -> Any:
    asked = {"temperature": 0, "max_tokens": 12, "messages": WHY, **more}
    return client(address).chat.completions.create(model=model, **asked)


def text(completion: Any, choice: int = 0) -> str:
    return str(completion.choices[choice].message.content)
