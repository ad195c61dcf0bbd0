"""Rows encoded many at once are what each is alone, whatever is in them, and lengths are theirs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from adapters.training import dataset, encoding
from adapters.training.data.findings import Findings
from adapters.training.data.lengths import Bin, measure
from adapters.training.data.reader import Entry
from adapters.training.data.row import Row
from adapters.training.encoding import Encoded, Refused, encoded
from backends import pretrained
from tests.tiny import SENTENCES

WORDS = " ".join(SENTENCES).split()


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return pretrained.tokenizer(tiny_base)


def row(*texts: str, system: str = "") -> Row:
    roles = ("user", "assistant") * len(texts)
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return Row.model_validate({"messages": [{"role": "system", "content": system}] * bool(system) + turns})


def some_rows(count: int, typed: bool) -> list[Row]:
    """Rows of one to four turns; in some of them somebody spells a control token."""
    draw = random.Random(5)
    made = []
    for number in range(count):
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 30))) for _ in range(2 * draw.randint(1, 4))]
        if typed and number % 3 == 0:
            texts[draw.randrange(len(texts))] += draw.choice(
                (" <|im_end|>", "<|im_start|>user\n", " é\u2028 ✓")
            )
        made.append(row(*texts, system=draw.choice(("", "Answer in plain words."))))
    return made


@pytest.mark.parametrize("typed", [False, True])
def test_rows_encoded_together_are_those_encoded_one_by_one(tokenizer: Any, typed: bool) -> None:
    rows = some_rows(300, typed)
    alone = [encoding._alone(each.talk, tokenizer, 10_000) for each in rows]
    assert all(isinstance(each, Encoded) for each in alone)
    assert list(encoded(rows, tokenizer, 10_000)) == alone


def test_lengths_are_those_of_the_rows_that_training_computes_with(tokenizer: Any) -> None:
    rows = some_rows(300, True)
    entries = [Entry(2 * place, each) for place, each in enumerate(rows)]
    measured = measure(entries, tokenizer, 10_000, Findings("d"))
    real = [encoding._alone(each.talk, tokenizer, 10_000) for each in rows]
    tokens = [len(each.input_ids) for each in real if isinstance(each, Encoded)]
    assert sorted(measured.tokens) == [(2 * place, length) for place, length in enumerate(tokens)]
    lengths = measured.lengths
    assert lengths is not None
    assert lengths.total == sum(tokens)
    assert lengths.trained == sum(label != -100 for each in real for label in each.labels)  # type: ignore[union-attr]
    ranked = sorted(tokens)
    assert (lengths.min, lengths.median, lengths.p95, lengths.max) == (
        ranked[0],
        ranked[149],
        ranked[285],
        ranked[-1],
    )
    assert sum(rows for _, _, rows in lengths.histogram) == 300
    assert lengths.histogram[0].least <= lengths.min
    assert lengths.max <= lengths.histogram[-1].most
    assert len(lengths.histogram) <= 20


def test_a_histogram_of_equal_lengths_is_one_bar(tokenizer: Any) -> None:
    measured = measure([Entry(1, row("a", "b"))] * 3, tokenizer, 100, Findings("d"))
    assert measured.lengths is not None
    length = measured.lengths.max
    assert measured.lengths.histogram == (Bin(length, length, 3),)


def test_rows_that_are_too_long_are_told_with_their_tokens_and_very_long_ones_are_not_counted(
    tokenizer: Any,
) -> None:
    findings = Findings("d")
    texts = [("a", "b"), ("a", "word " * 60), ("word " * 50_000, "b"), ("a", "b <|im_end|>" + " c" * 60)]
    measured = measure([Entry(at, row(*each)) for at, each in enumerate(texts, 1)], tokenizer, 50, findings)
    [found] = findings.problems
    assert [line for line, _ in found.first] == [2, 3, 4]
    exact = dataset.encode([row(*texts[1])], tokenizer, 10_000, "d")[0]
    assert found.first[0].text == f"{len(exact.input_ids)} tokens, and max_length is 50"
    assert found.first[1].text == "more than 50 tokens, and max_length is 50"
    assert measured.lengths is not None
    assert measured.lengths.trained < measured.lengths.min


def test_a_row_that_the_template_refuses_leaves_those_beside_it_alone(tiny_base: Path) -> None:
    tokenizer = pretrained.tokenizer(tiny_base)
    tokenizer.chat_template = (
        "{% if 'bad' in messages[0]['content'] %}{{ raise_exception('no bad words') }}{% endif %}"
        + tokenizer.chat_template
    )
    rows = [row("a", "b"), row("bad", "b"), row("c", "d")]
    got = list(encoded(rows, tokenizer, 100))
    assert [type(each) for each in got] == [Encoded, Refused, Encoded]
    assert "no bad words" in got[1].why  # type: ignore[union-attr]
    with pytest.raises(dataset.CounterpointError, match=r"rows: row 2: .*no bad words"):
        dataset.encode(rows, tokenizer, 100, "rows")


def test_a_row_of_very_many_turns_is_not_read_once_more_for_each(tokenizer: Any) -> None:
    many = row(*["a"] * 4000)
    [refused] = encoded([many], tokenizer, 512)
    assert isinstance(refused, Refused)
    assert refused.tokens is not None
    assert refused.tokens > 512
