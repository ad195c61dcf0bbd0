"""The real embedded base with the shipped adapters: what the tiny base cannot show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from platformdirs import user_cache_path
from transformers import AutoModelForCausalLM

from adapters.store import AdapterStore
from backends.contract import BaseFacts
from backends.local.base_model import BaseModel, load
from backends.local.decode import Decoder
from backends.local.fetch import locate
from backends.local.prompt import tokenize
from tests.backends.test_decode import QUESTIONS, generated, row, run, tokens

ROOT = Path(__file__).parents[2]
SHORT = 12


@pytest.fixture(scope="module")
def facts() -> BaseFacts:
    cache = os.environ.get("COUNTERPOINT_CACHE_DIR")
    return locate("embedded", Path(cache) if cache else user_cache_path("counterpoint"))


@pytest.fixture(scope="module")
def store(facts: BaseFacts) -> AdapterStore:
    return AdapterStore(ROOT / "adapters" / "library", Path(os.devnull), lambda: facts)


@pytest.fixture(scope="module")
def exact(facts: BaseFacts, store: AdapterStore) -> Iterator[BaseModel]:
    """In float32, on all cores, with the shipped adapters in memory."""
    threads = torch.get_num_threads()
    base = load(facts.folder, "none", "auto")
    torch.set_num_threads(os.cpu_count() or 1)
    for entry in store.list():
        base.rows.load(store.source(entry.name), set())
    yield base
    torch.set_num_threads(threads)


def test_every_shipped_adapter_is_proven_for_the_embedded_base(store: AdapterStore) -> None:
    entries = {entry.name: entry for entry in store.list()}
    assert set(entries) == {"support", "orders", "gazette"}
    for entry in entries.values():
        assert entry.inspection.problems == ()
        assert entry.inspection.base_proven


def test_greedy_equals_transformers_generate_on_the_real_base(exact: BaseModel, facts: BaseFacts) -> None:
    reference = AutoModelForCausalLM.from_pretrained(facts.folder, dtype=torch.float32)
    for question in QUESTIONS[:2]:
        expected = generated(reference, tokens(exact, question))[:SHORT]
        assert run(Decoder(exact, 0), [row(exact, question, max_tokens=SHORT)])[0] == expected


def test_a_row_of_the_real_base_answers_beside_five_others_as_it_does_alone(exact: BaseModel) -> None:
    def six() -> list:
        return [
            row(exact, "Where is your roastery?", None, max_tokens=SHORT),
            row(exact, "Where is your roastery?", "support", max_tokens=SHORT),
            row(exact, "Where is your roastery?", "support", 0.5, temperature=0.7, seed=3, max_tokens=SHORT),
            row(
                exact, "Why is the sky blue?", "gazette", temperature=0.5, top_p=0.9, seed=4, max_tokens=SHORT
            ),
            row(exact, "Why is the sky blue?", None, repetition_penalty=1.1, max_tokens=SHORT),
            row(exact, "Two lemon cakes to York for Ana Silva.", "orders", max_tokens=SHORT),
        ]

    assert run(Decoder(exact, 0), six()) == [run(Decoder(exact, 0), [one])[0] for one in six()]


def test_no_added_token_of_the_real_tokenizer_comes_out_of_what_a_person_wrote(exact: BaseModel) -> None:
    tokenizer = exact.tokenizer
    added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
    assert len(added) > 10
    written = [{"role": "user", "content": " ".join(added)}]
    plain = [{"role": "user", "content": "Hi"}]

    def ids(messages: list) -> list[int]:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tokenize(tokenizer, messages, prompt)

    assert [token for token in ids(written) if token in added.values()] == [
        token for token in ids(plain) if token in added.values()
    ]
