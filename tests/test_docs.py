"""What the README promises of the command line is so."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

import app
from benchmarks import vllm_server

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?:console|bash|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?python3? app\.py\b(.*)$")


def commands(text: str) -> list[str]:
    """What follows `python app.py` in the shell blocks of a page, lines that go on joined."""
    lines = "".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    return [match[1].strip() for match in map(COMMAND.match, lines) if match]


def options() -> set[str]:
    """Every long option of every command."""
    found: set[str] = set()
    waiting: list[argparse.ArgumentParser] = [app.parser()]
    while waiting:
        for action in waiting.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += action.choices.values()
            found |= {name for name in action.option_strings if name.startswith("--")}
    return found - {"--help"}


def test_commands_are_found_in_shell_blocks_however_they_are_written() -> None:
    page = (
        "python app.py outside\n```console\n$ python app.py ask \\\n  Why\nA=1 .venv/bin/python app.py\nls\n```\n"
        "```python\npython app.py inside\n```\n```bash\npython app.py modes  # all\n```\n"
    )
    assert [shlex.split(command, comments=True) for command in commands(page)] == [
        ["ask", "Why"],
        [],
        ["modes"],
    ]


def test_the_readme_shows_commands() -> None:
    shown = {command.partition(" ")[0] for command in commands(README)}
    assert shown >= {"ask", "modes", "check-adapter", "train"}


@pytest.mark.parametrize("command", commands(README))
def test_a_command_of_the_readme_is_one_that_the_program_takes(command: str) -> None:
    words = shlex.split(command, comments=True)
    if not words or words[0].startswith("-"):
        words.insert(0, "serve")
    parsed = app.parser().parse_args(words)
    assert parsed.command == words[0]


@pytest.mark.parametrize("option", sorted(options()))
def test_an_option_of_the_program_is_named_in_the_readme(option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", README)


def vllm_options(words: list[str]) -> dict[str, list[str]]:
    """Each option of a command line with its values, as lists."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            values = found.setdefault(word, [])
        elif found:
            values.append(word)
    return found


def test_the_vllm_that_is_tried_gets_the_options_of_the_readme_and_every_core() -> None:
    shell = "".join(BLOCK.findall(README)).replace("\\\n", " ")
    given = vllm_options(
        shlex.split(next(line for line in shell.splitlines() if line.startswith("vllm serve")))
    )
    adapters = {name: Path("adapters/library") / name for name in ("support", "orders")}
    tried = vllm_options(vllm_server.command(Path("base"), adapters, 8000, "bfloat16"))
    assert given.pop("--api-key") != tried.pop("--api-key") == [vllm_server.KEY]
    assert {option: tried.get(option) for option in given} == given
    assert vllm_server.ENVIRONMENT["VLLM_CPU_NUM_OF_RESERVED_CPU"] == "0"


@pytest.mark.parametrize("page", ["README.md", "personas/README.md", "adapters/README.md"])
def test_a_link_to_a_file_of_the_checkout_leads_to_one(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not ((ROOT / page).parent / link).exists()]
    assert not missing
