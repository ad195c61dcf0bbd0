"""Foreign files that the tests of travelling share."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

CARD: dict[str, Any] = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Ann Lee",
        "description": "{{char}} sells tea to {{user}}. {{ x }} and {{random::a}} and {{7*7}} stay.",
        "personality": "Kind.",
        "scenario": "A shop. <BOT> waits for <user>.",
        "first_mes": "Hello {{USER}}, {{Char}} here.",
        "mes_example": "<START>\n{{user}}: Tea?\n{{char}}: Yes.\nOf course.\n<START>\n{{char}}: Nobody asked.\n"
        "{{user}}: Why?\nAnn Lee: Because.\n{{user}}: And then?",
        "creator_notes": "SECRET for people",
        "system_prompt": "{{original}} Be brief.",
        "post_history_instructions": "No lies, {{char}}.",
        "alternate_greetings": ["ANOTHER GREETING"],
        "tags": ["Sci-Fi", "sci fi", "千"],
        "creator": "Bob",
        "character_version": "1.2",
        "character_book": {
            "name": "lore",
            "extensions": {"unknown/book": 1},
            "entries": [
                {
                    "keys": [],
                    "content": "ALWAYS {{char}}",
                    "enabled": True,
                    "constant": True,
                    "insertion_order": 2,
                    "position": "after_char",
                    "extensions": {},
                },
                {"keys": [], "content": "FIRST", "enabled": True, "constant": True, "insertion_order": 1},
                {
                    "keys": ["k"],
                    "content": "WAITING",
                    "enabled": True,
                    "insertion_order": 0,
                    "extensions": {},
                },
                {
                    "keys": [],
                    "content": "SWITCHED OFF",
                    "enabled": False,
                    "constant": True,
                    "insertion_order": 0,
                },
            ],
        },
        "extensions": {
            "unknown/app": {"deep": [1, 2.5, None, {"é": True}]},
            "depth_prompt": {"prompt": "DEPTH"},
        },
        "unheard_of": {"kept": ["too"]},
    },
}

WEBUI = """\
name: Chiharu
your_name: Taro
greeting: "*waves* Hey {{user}}, {{char}} here"
context: |
  Chiharu's Persona: Chiharu knows computers. {{x}} stays.
  <START>
  {{user}}: Why computers?
  {{char}}: They are puzzles.
  {{user}}: Nice!
extra: [1, two]
"""

MODELFILE = '''\
# a comment
FROM llama3.2
ADAPTER ./mario-lora.gguf
system """You are Mario.
Say "hi" to {{ .Name }} and {{x}}.
"""
PARAMETER temperature 0.7
PARAMETER top_k 40
PARAMETER repeat_penalty 1.1
PARAMETER stop "### User: "
PARAMETER stop <|im_end|>
PARAMETER num_ctx 4096
PARAMETER seed 42
TEMPLATE """{{ .System }}

SYSTEM not an instruction
{{ .Prompt }}"""
MESSAGE user Who are you?
MESSAGE assistant """It's-a me!
Mario."""
LICENSE "MIT"
'''


def as_json(card: Any) -> bytes:
    return json.dumps(card).encode()


def with_data(**fields: Any) -> bytes:
    """CARD with other fields."""
    return as_json({**CARD, "data": {**CARD["data"], **fields}})


def picture(**texts: str | bytes) -> bytes:
    """A PNG with these tEXt chunks."""
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def in_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
