"""Rows of one batch answer as if each were alone, and as Transformers and PEFT say they should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from backends.contract import AdapterSource, Sampling
from backends.local.base_model import BaseModel, load
from backends.local.decode import Decoder, Row
from backends.local.pace import Pace
from durable import sha256

STORE = 64 * 1024**2
QUESTIONS = (
    "What is the capital of France?",
    "How does a bicycle stay upright when it rolls?",
    "Say so.",
    "The quick brown fox jumps over the lazy dog, and then the order ships every two weeks. Why?",
)


def tokens(base: BaseModel, question: str) -> list[int]:
    messages = [{"role": "user", "content": question}]
    prompt = base.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return base.tokenizer(prompt, add_special_tokens=False)["input_ids"]


def run(decoder: Decoder, rows: Sequence[Row]) -> list[list[int]]:
    """Decodes until every row has its max_tokens or an end token; each leaves when it is done."""
    decoder.add(rows)
    while decoder.rows:
        if decoder.reading:
            decoder.read()
        decoder.answer()
        for row in list(decoder.rows):
            ended = bool(row.answer) and row.answer[-1] in decoder.base.end_tokens
            if ended or len(row.answer) >= row.sampling.max_tokens:
                decoder.remove(row)
    return [row.answer for row in rows]


def row(
    base: BaseModel, question: str, adapter: str | None = None, scale: float = 1.0, **sampling: float
) -> Row:
    return Row(
        tokens(base, question),
        Sampling(**{"max_tokens": 24, **sampling}),  # type: ignore[arg-type]
        adapter=adapter,
        scale=scale,
    )


def mixed(base: BaseModel) -> list[Row]:
    """Six rows of which no two are alike."""
    return [
        row(base, QUESTIONS[0]),
        row(base, QUESTIONS[1], "one", temperature=0.8, seed=7),
        row(base, QUESTIONS[2], "two", temperature=1.2, top_p=0.9, seed=8),
        row(base, QUESTIONS[3], "narrow", repetition_penalty=1.3),
        row(base, QUESTIONS[0], "one", scale=0.5, max_tokens=40),
        row(base, QUESTIONS[1], "two", temperature=0.7, top_k=20, min_p=0.05, seed=9, max_tokens=5),
    ]


def generated(model: torch.nn.Module, prompt: list[int], **options: float) -> list[int]:
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, **options
        )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_equals_transformers_generate(
    plain: BaseModel, tiny_base: Path, question: str, penalty: float
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    expected = generated(model, tokens(plain, question), repetition_penalty=penalty)
    assert run(Decoder(plain, 0), [row(plain, question, repetition_penalty=penalty)]) == [expected]


@pytest.mark.parametrize("name", ["one", "two", "narrow"])
def test_an_adapters_row_equals_peft_even_beside_rows_of_other_adapters(
    plain: BaseModel, tiny_base: Path, tiny_adapters: dict[str, Path], name: str
) -> None:
    tuned = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), tiny_adapters[name]
    )
    expected = generated(tuned.eval(), tokens(plain, QUESTIONS[0]))
    others = [row(plain, QUESTIONS[1], other) for other in (None, "one", "two", "narrow")]
    assert run(Decoder(plain, 0), [others[0], row(plain, QUESTIONS[0], name), *others[1:]])[1] == expected


def test_a_row_answers_beside_five_others_as_it_does_alone(plain: BaseModel) -> None:
    together = run(Decoder(plain, 0), mixed(plain))
    alone = [run(Decoder(plain, 0), [one])[0] for one in mixed(plain)]
    assert together == alone
    assert len({tuple(answer) for answer in together}) == len(together), (
        "the rows must differ for this to tell"
    )


def test_rows_that_join_and_leave_in_between_change_no_other_row(plain: BaseModel) -> None:
    alone = [run(Decoder(plain, 0), [one])[0] for one in mixed(plain)]
    decoder, rows = Decoder(plain, 0), mixed(plain)
    for step, joining in enumerate(rows):
        decoder.add([joining])
        for _ in range(2 + step % 2):
            if decoder.reading:
                decoder.read()
            decoder.answer()
        for left in [r for r in decoder.rows if r.answer and len(r.answer) > 6 and r is rows[0]]:
            decoder.remove(left)
    for joined, expected in zip(rows, alone, strict=True):
        assert joined.answer == expected[: len(joined.answer)]
        assert joined.answer


def test_a_long_prompt_read_in_pieces_beside_an_answering_row_changes_nothing(plain: BaseModel) -> None:
    long = " ".join(QUESTIONS * 8)
    expected = run(Decoder(plain, 0), [row(plain, long)])
    decoder, early, late = Decoder(plain, 0), row(plain, QUESTIONS[0], "one"), row(plain, long)
    decoder.add([early])
    decoder.read()
    pieces = 0
    decoder.add([late])
    while decoder.reading:
        decoder.read()
        decoder.answer()
        pieces += 1
    while len(late.answer) < len(expected[0]):
        decoder.answer()
    assert pieces > 1
    assert late.answer[: len(expected[0])] == expected[0]


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(plain: BaseModel) -> None:
    first, again, other = (
        run(Decoder(plain, 0), [row(plain, QUESTIONS[0], temperature=1.0, seed=seed)])[0]
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_an_adapter_at_strength_0_is_the_bare_base(plain: BaseModel) -> None:
    bare, off, on = run(
        Decoder(plain, 0),
        [row(plain, QUESTIONS[0]), row(plain, QUESTIONS[0], "one", 0.0), row(plain, QUESTIONS[0], "one")],
    )
    assert bare == off
    assert bare != on


def test_a_stored_beginning_spares_reading_and_changes_no_answer(plain: BaseModel) -> None:
    with_store, without = Decoder(plain, STORE), Decoder(plain, 0)
    beginning = " ".join(QUESTIONS * 4)
    for number, adapter in enumerate((None, "one", None, "one", "two")):
        asked = [row(plain, f"{beginning} {number}", adapter, temperature=0.9, seed=number) for _ in range(2)]
        assert run(with_store, asked[:1]) == run(without, asked[1:])
        shared = len(tokens(plain, beginning)) // 2
        assert (asked[0].cached > shared) == (number in (2, 3)), (
            "only the same adapter's own beginning is of use"
        )
        assert asked[1].cached == 0


def test_a_conversations_next_turn_reads_only_what_is_new(
    tiny_base: Path, sources: dict[str, AdapterSource]
) -> None:
    base = load(tiny_base, "none", "bfloat16")
    base.rows.load(sources["one"], set())
    decoder = Decoder(base, STORE)
    first = row(base, QUESTIONS[3], "one")
    run(decoder, [first])
    again = Row([*first.prompt, *first.answer[:-1], *tokens(base, "Why?")], first.sampling, adapter="one")
    run(decoder, [again])
    assert again.cached >= len(first.prompt) + len(first.answer) - 1


def test_a_conversation_goes_on_bit_by_bit_as_if_nothing_were_known_of_it(
    plain: BaseModel, threads: Callable[[int], None]
) -> None:
    """In float32: with the store and without, beside others and alone, with any number of threads."""

    def turns(decoder: Decoder, beside: int, count: int) -> list[torch.Tensor]:
        threads(count)
        decoder._pace = Pace(count, lambda number: None)
        talk, said, found = list(tokens(plain, " ".join(QUESTIONS * 3))), [], []
        for turn in range(3):
            asked = Row(talk, Sampling(max_tokens=40, temperature=1.0, seed=turn, top_k=50), adapter="one")
            others = [row(plain, QUESTIONS[number] * (turn + 1), max_tokens=70) for number in range(beside)]
            decoder.add([*others, asked])
            while decoder.reading:
                decoder.read()
                decoder.answer()
            while len(asked.answer) < 40:
                decoder.answer()
            place = decoder.rows.index(asked)
            found += decoder.kv.export(place, asked.length, torch.float32)[:1]
            said += asked.answer
            for left in list(decoder.rows):
                decoder.remove(left)
            talk = [*talk, *asked.answer, *tokens(plain, QUESTIONS[turn])]
        return [*found, torch.tensor(said)]

    expected = turns(Decoder(plain, 0), 0, 1)
    for decoder, beside, count in (
        (Decoder(plain, STORE), 0, 1),
        (Decoder(plain, STORE), 3, 2),
        (Decoder(plain, 0), 3, 3),
    ):
        found = turns(decoder, beside, count)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_another_strength_never_takes_over_a_beginning(plain: BaseModel) -> None:
    decoder = Decoder(plain, STORE)
    full, half = row(plain, QUESTIONS[3], "one"), row(plain, QUESTIONS[3], "one", 0.5)
    run(decoder, [full])
    run(decoder, [half])
    assert half.cached == 0


def test_the_store_keeps_to_its_bytes(plain: BaseModel) -> None:
    decoder = Decoder(plain, 200_000)
    for number in range(12):
        run(decoder, [row(plain, f"{number} {QUESTIONS[3]}")])
        assert 0 < decoder.store.bytes <= 200_000
    assert len(decoder.store) < 12


def test_memory_of_an_adapter_is_its_weights_and_no_more(tiny_base: Path, sources: dict) -> None:
    base = load(tiny_base, "none", "auto")
    for name in ("one", "narrow", "two"):
        before = base.rows.bytes
        base.rows.load(sources[name], set())
        in_float32 = sum(4 * tensor.numel() for tensor in load_file(sources[name].weights).values())
        assert base.rows.bytes - before <= in_float32
    base.rows.unload("narrow")
    assert "narrow" not in base.rows.loaded


@pytest.mark.parametrize(("scaling", "share"), [(2.0, 0.5), (1.7, 1.0)])
def test_a_16_bit_adapter_takes_half_the_memory_where_that_loses_nothing(
    plain: BaseModel, sources: dict[str, AdapterSource], tmp_path: Path, scaling: float, share: float
) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(sources["one"].weights).items()}
    file = tmp_path / "short.safetensors"
    save_file(tensors, file)
    scalings = dict.fromkeys(sources["one"].scaling, scaling)
    short = replace(sources["one"], name="short", weights=file, sha256=sha256(file), scaling=scalings)
    loaded = plain.rows.load(short, set())
    assert loaded.bytes == share * sum(tensor.numel() * 4 for tensor in tensors.values())
    plain.rows.unload("short")


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_answers_and_its_adapters_act(
    tmp_path: Path, sources: dict, tiny_base: Path, quantization: str
) -> None:
    base = load(tiny_base, quantization, "auto")
    base.rows.load(sources["one"], set())
    bare, tuned = run(Decoder(base, 0), [row(base, QUESTIONS[0]), row(base, QUESTIONS[0], "one")])
    assert bare
    assert bare != tuned


def test_rows_that_begin_alike_read_their_beginning_once_even_when_asked_together(plain: BaseModel) -> None:
    beginning = " ".join(QUESTIONS * 3)
    rows = [row(plain, f"{beginning} {number}", "one") for number in range(3)]
    alone = [run(Decoder(plain, 0), [row(plain, f"{beginning} {number}", "one")])[0] for number in range(3)]
    assert run(Decoder(plain, 0), rows) == alone
    assert sorted(r.cached > len(tokens(plain, beginning)) // 2 for r in rows) == [False, True, True]


def test_the_probe_of_an_adapter_takes_no_place_beside_the_rows_at_work(plain: BaseModel) -> None:
    decoder = Decoder(plain, 0)
    asked, alone = (row(plain, " ".join(QUESTIONS * 3), max_tokens=4) for _ in range(2))
    decoder.add([asked])
    while decoder.reading:
        decoder.read()
    before = decoder.kv.bytes
    assert decoder.effect("one", tokens(plain, QUESTIONS[0])) > 0
    assert decoder.kv.bytes == before
    for _ in range(3):
        decoder.answer()
    assert [asked.answer] == run(Decoder(plain, 0), [alone])


def test_what_a_row_read_itself_is_not_counted_as_cached_when_another_overtakes_it(plain: BaseModel) -> None:
    long = " ".join(QUESTIONS * 4)
    answering, slow, fast = (row(plain, text) for text in (QUESTIONS[0], f"{long} 1", f"{long} 2"))
    decoder = Decoder(plain, 0)
    decoder.add([answering])
    decoder.read()
    decoder.add([slow])
    decoder.read()
    begun, read_itself = slow.length, slow.length - slow.cached
    assert 0 < read_itself <= begun < len(slow.prompt)
    decoder.add([fast])
    decoder.remove(answering)
    assert decoder.rows == [fast, slow], "the last row takes the place of the one that left"
    while decoder.reading:
        decoder.read()
    assert fast.cached == begun
    assert begun - read_itself < slow.cached < len(slow.prompt) - read_itself
    assert slow.answer == run(Decoder(plain, 0), [row(plain, f"{long} 1")])[0][:1]
