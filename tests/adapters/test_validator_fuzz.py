"""Whatever bytes lie in the files: problems, never an exception, never a usable adapter by accident."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from adapters.validator import as_dict, describe, inspect
from backends.contract import BaseFacts
from tests.adapters.folders import CONFIG, WEIGHTS

JUNK: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**63,
        1e308,
        0.5,
        "",
        "x",
        "\x00",
        "\ud800",
        "a" * 5000,
        "../../etc/passwd",
    ),
    *(
        [],
        [[]],
        {},
        {"": {}},
        [None],
        ["q_proj"],
        {"q_proj": 4},
        [0, 4],
        [-1],
        {"dtype": "F32"},
        "(a+)+$",
        "[",
        "\\",
    ),
]


def look(folder: Path, base: BaseFacts) -> bool:
    found = inspect(folder, base)
    assert found.usable == (not found.problems)
    assert all(line.isprintable() for line in (*found.problems, *found.warnings))
    assert describe(found)
    json.dumps(as_dict(found))
    return found.usable


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_cut_anywhere_is_a_problem(name: str, adapter: Path, base: BaseFacts) -> None:
    whole = (adapter / name).read_bytes()
    generator = random.Random(1)
    for length in {*range(24), *(generator.randrange(len(whole) - 1) for _ in range(200))}:
        (adapter / name).write_bytes(whole[:length])
        assert not look(adapter, base), length


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, "passport.json"])
def test_random_bytes_are_a_problem(name: str, adapter: Path, base: BaseFacts) -> None:
    generator = random.Random(2)
    for _ in range(200):
        (adapter / name).write_bytes(generator.randbytes(generator.randrange(300)))
        usable = look(adapter, base)
        assert not usable or name == "passport.json"


def test_a_garbled_header_never_raises(adapter: Path, base: BaseFacts) -> None:
    whole = (adapter / WEIGHTS).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    generator = random.Random(3)
    for _ in range(500):
        garbled = bytearray(whole)
        for _ in range(generator.randrange(1, 6)):
            garbled[generator.randrange(header)] = generator.randrange(256)
        (adapter / WEIGHTS).write_bytes(garbled)
        look(adapter, base)


def test_junk_in_any_field_of_the_header_is_a_problem(adapter: Path, base: BaseFacts) -> None:
    whole = (adapter / WEIGHTS).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header.pop("__metadata__")
    first = next(iter(header))
    for junk in JUNK:
        for field in ("dtype", "shape", "data_offsets", None):
            entry = junk if field is None else header[first] | {field: junk}
            raw = json.dumps(header | {first: entry}).encode()
            (adapter / WEIGHTS).write_bytes(len(raw).to_bytes(8, "little") + raw + whole[8 + length :])
            assert not look(adapter, base), (field, junk)


def test_junk_in_any_field_of_the_configuration_never_raises(adapter: Path, base: BaseFacts) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    for field in config:
        for junk in JUNK:
            (adapter / CONFIG).write_text(json.dumps(config | {field: junk}))
            look(adapter, base)
    for junk in JUNK:
        (adapter / CONFIG).write_text(json.dumps(junk))
        assert not look(adapter, base)
