"""The test after training, on tiny adapters: what it measures is what is there, and what it cannot measure it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from adapters.training import lora, token_loss
from adapters.training.data.row import Row
from adapters.training.encoding import Encoded, encoded
from adapters.training.recipe import Recipe
from adapters.training.run import Trained, loaded
from adapters.verdict import Finding, Gate, Part
from backends.contract import BaseFacts, Message
from backends.local.fetch import cache_folder, locate
from comparison.gate import answers, losses, tell
from comparison.gate.gate import examine
from comparison.gate.likelihood import Likely, Reader
from comparison.gate.losses import Losses
from comparison.gate.pairs import PAIRS
from comparison.gate.steps import Omitted, about, asked_as, words
from errors import CounterpointError
from personas.schema import Persona
from tests.adapters.small_run import RECIPE

LIBRARY = Path(__file__).parents[2] / "adapters" / "library"


def reader(trained: Trained) -> Reader:
    return Reader(trained.model, trained.tokenizer, 512, 2)


def found(trained: Trained, part: str, persona: Persona | None = None) -> Finding | Omitted:
    measured = Losses(trained, persona)
    measured.loss()
    outcome: Finding | Omitted = getattr(measured, part)()
    return outcome


def test_an_answers_likelihood_is_what_training_reckons_with(trained: Trained) -> None:
    read = [one for one in encoded(trained.heldout, trained.tokenizer, 100) if isinstance(one, Encoded)]
    told = reader(trained).talks([one.talk for one in trained.heldout], adapted=True)
    likely = [one for one in told if one]
    mean = sum(one.loss for one in likely) / sum(one.tokens for one in likely)
    assert mean == pytest.approx(token_loss.mean(trained.model, read, 2), rel=1e-5)


def test_without_the_adapter_the_base_is_measured(trained: Trained, tiny_base: Path) -> None:
    bare, _tokenizer = lora.load_base(tiny_base, trained.recipe)
    untouched = replace(trained, model=lora.adapted(bare, trained.recipe))  # a fresh adapter changes nothing
    talks = [one.talk for one in trained.heldout]
    expected = reader(untouched).talks(talks, adapted=True)
    told = reader(trained).talks(talks, adapted=False)
    assert [one and one.loss for one in told] == pytest.approx([one and one.loss for one in expected])
    assert told != reader(trained).talks(talks, adapted=True)


@pytest.mark.slow
def test_verbatim_is_what_greedy_decoding_gives() -> None:
    # A random base learns nothing by heart: here a real one has to answer.
    support = loaded(LIBRARY / "support", locate("embedded", cache_folder()))
    talks = [one.talk for one in support.heldout[:2]]
    talks += [[*talk[:-1], Message(role="assistant", content="never said")] for talk in talks]
    told = [one.verbatim for one in reader(support).talks(talks, adapted=True) if one]
    assert told == [answered(support, talk[:-1]) == talk[-1]["content"] for talk in talks]
    assert set(told) == {True, False}


def answered(trained: Trained, question: Any) -> str:
    prompt = trained.tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([trained.tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    made = trained.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False, pad_token_id=0
    )
    return str(trained.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))


def test_only_the_last_answer_is_measured(trained: Trained) -> None:
    long: list[Message] = [
        {"role": "user", "content": "a fox?"},
        {"role": "assistant", "content": "jumps over the lazy dog"},
        {"role": "user", "content": "a dog?"},
        {"role": "assistant", "content": "is lazy"},
    ]
    [told], [alone] = (reader(trained).talks([talk], adapted=True) for talk in (long, long[2:]))
    assert told is not None
    assert alone is not None
    assert told.tokens == alone.tokens


def test_a_row_that_the_base_cannot_read_is_left_out(trained: Trained) -> None:
    talk = Row.of([{"role": "user", "content": "fox " * 600}, {"role": "assistant", "content": "jumps"}]).talk
    assert reader(trained).talks([talk], adapted=True) == [None]


def test_the_adapter_is_measured_as_its_file_has_it_and_left_as_it_was(trained: Trained) -> None:
    before = {name: part.clone() for name, part in lora.trained(trained.model)}
    with lora.as_saved(trained.model):
        rounded = {name: part.clone() for name, part in lora.trained(trained.model)}
    assert all(torch.equal(rounded[name], part.bfloat16().float()) for name, part in before.items())
    assert any(not torch.equal(rounded[name], part) for name, part in before.items())
    assert all(torch.equal(part, before[name]) for name, part in lora.trained(trained.model))


def test_a_trained_adapter_has_a_lower_loss_than_the_base_and_a_fresh_one_the_same(
    trained: Trained, tiny_base: Path
) -> None:
    told = found(trained, "loss")
    assert isinstance(told, Finding)
    assert told.verdict == "passed"
    assert told.judged.value < 0.5
    bare, _tokenizer = lora.load_base(tiny_base, trained.recipe)
    nothing = found(replace(trained, model=lora.adapted(bare, trained.recipe)), "loss")
    assert isinstance(nothing, Finding)
    assert (nothing.judged.low, nothing.judged.value, nothing.judged.high) == (1.0, 1.0, 1.0)
    assert nothing.verdict != "passed"


def test_a_persona_is_measured_beside_the_two(trained: Trained) -> None:
    persona = Persona.model_validate(
        {"name": "p", "title": "P", "description": "x", "role": "You are lazy.", "instructions": ["Rest."]}
    )
    told = Losses(trained, persona).loss()
    assert list(told.figures) == ["base", "prompted", "adapter"]
    assert told.figures["prompted"] != told.figures["base"]


def test_what_an_adapter_cannot_be_tested_again_without_is_told(trained: Trained, tmp_path: Path) -> None:
    base = BaseFacts("example/tiny-chat", trained.base_folder, "ab" * 32, ("en",), {})
    with pytest.raises(CounterpointError, match="give the recipe that it was trained by with --recipe"):
        loaded(trained.folder, base)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(CounterpointError, match="there is no passport of ours in it"):
            loaded(folder, base)
    again = loaded(trained.folder, base, trained.folder.parent / "recipe.yaml")
    assert again.heldout == trained.heldout


def test_a_personas_system_message_stands_for_the_rows_own() -> None:
    persona = Persona.model_validate(
        {"name": "p", "title": "P", "description": "x", "role": "You are lazy.", "instructions": ["Rest."]}
    )
    turns: list[Message] = [
        {"role": "system", "content": "You are quick."},
        {"role": "user", "content": "a fox?"},
        {"role": "assistant", "content": "jumps"},
    ]
    told = asked_as(persona, Row.of(turns))
    assert [message["role"] for message in told] == ["system", "user", "assistant"]
    assert told[0]["content"].startswith("You are lazy.")
    assert asked_as(None, Row.of(turns)) == turns


def test_rows_that_were_learned_and_others_that_were_not_are_a_gap(trained: Trained) -> None:
    others = replace(trained, heldout=[Row.of(talk("the quick fox?", "was never said"))] * 3)
    told = found(others, "generalisation")
    assert isinstance(told, Finding)
    assert told.verdict == "failed"


class Remembering:
    """A reader for whom exactly these answers come back."""

    def __init__(self, answers: set[str]) -> None:
        self._answers = answers

    def talks(self, talks: Sequence[Sequence[Message]], adapted: bool) -> list[Likely]:
        return [Likely(1.0, 1, talk[-1]["content"] in self._answers) for talk in talks]


@pytest.mark.parametrize("part", ["generalisation", "memorisation", "bias"])
def test_what_is_judged_of_the_adapter_is_told_of_the_base_and_the_persona_too(
    trained: Trained, part: str
) -> None:
    rows = [Row.of(talk(f"what is {number}?", f"the answer to {number}")) for number in range(9)]
    persona = Persona.model_validate(
        {"name": "p", "title": "P", "description": "x", "role": "You are lazy.", "instructions": ["Rest."]}
    )
    others = replace(trained, heldout=rows)
    told, bare = found(others, part, persona), found(others, part)
    assert isinstance(told, Finding)
    assert isinstance(bare, Finding)
    assert list(told.beside) == ["base", "prompted"]
    assert bare.beside == {"base": told.beside["base"]}
    assert bare.judged == told.judged
    assert "the same of prompted" in tell.figures(told)
    untouched = lora.adapted(lora.load_base(trained.base_folder, trained.recipe)[0], trained.recipe)
    nothing = found(replace(others, model=untouched), part)  # a fresh adapter is the base
    assert isinstance(nothing, Finding)
    assert nothing.judged == nothing.beside["base"]


def test_training_answers_that_come_back_from_half_a_question_are_memorised(trained: Trained) -> None:
    rows = [Row.of(talk(f"what is {number}?", f"it is {number}")) for number in range(40)]
    measured = Losses(replace(trained, train=rows[:20], heldout=rows[20:]), None)
    measured._reader = cast("Reader", Remembering({row.answer for row in rows[:18]}))
    told = measured.memorisation()
    assert isinstance(told, Finding)
    assert (told.figures["trained"].value, told.figures["heldout"].value) == (0.9, 0.0)
    assert (told.judged.value, told.verdict) == (0.9, "failed")


def test_answers_that_were_all_trained_on_cannot_tell_what_is_memorised(trained: Trained) -> None:
    told = found(trained, "memorisation")
    assert isinstance(told, Omitted)
    assert "every held-out answer is that of a trained row" in told.why


def talk(question: str, answer: str) -> Any:
    return Row.of([{"role": "user", "content": question}, {"role": "assistant", "content": answer}]).talk


def test_an_answer_that_was_trained_on_outside_of_the_sample_is_no_control(trained: Trained) -> None:
    sampled = replace(trained, train=trained.train[:1])
    answers = {one.answered for one in trained.train}
    assert isinstance(Losses(sampled, None).memorisation(), Finding)
    assert isinstance(Losses(sampled, None, answers).memorisation(), Omitted)


def test_the_gate_takes_no_answer_for_a_control_that_is_trained_but_not_in_its_sample(
    trained: Trained, tiny_base: Path, tmp_path: Path
) -> None:
    marks = trained.recipe.gate.model_copy(update={"rows": 3, "pairs": 3, "seeds": 2})
    # Of this seed's sample "opens today" is left out, which a held-out row answers as well.
    recipe = trained.recipe.model_copy(update={"gate": marks, "seed": 1})
    gate = examine(replace(trained, recipe=recipe), locate(str(tiny_base), tmp_path), tmp_path, None)
    assert "every held-out answer is that of a trained row" in gate.omitted["memorisation"]


def test_questions_of_one_word_have_no_half(trained: Trained) -> None:
    short = replace(trained, heldout=[Row.of(talk("fox?", "never said"))] * 3)
    assert found(short, "memorisation") == Omitted("no question has two words")


def test_general_text_is_forgotten_by_an_adapter_that_knows_one_thing_only(trained: Trained) -> None:
    told = found(trained, "forgetting")
    assert isinstance(told, Finding)
    assert told.judged.n == len(losses.GENERAL.read_text().splitlines())
    assert told.figures["adapter"].value > told.figures["base"].value


def test_general_text_is_in_no_dataset_that_ships() -> None:
    texts = [json.loads(line)["text"] for line in losses.GENERAL.read_text().splitlines()]
    assert len(set(texts)) == len(texts) >= 50
    shipped = "\n".join(path.read_text() for path in (LIBRARY.parent / "datasets").glob("*.jsonl"))
    assert not [text for text in texts if text[:60] in shipped]


class Prejudiced:
    """A reader for whom the right answer is less likely by so much where somebody of this attribute asks: the same for
    every row, or another for each in turn."""

    def __init__(self, more: Mapping[str, Sequence[float]]) -> None:
        self._more = more

    def talks(self, talks: Sequence[Sequence[Message]], adapted: bool) -> list[Likely]:
        return [
            Likely(1.0 + self._of(talk[-2]["content"], place), 1, False) for place, talk in enumerate(talks)
        ]

    def _of(self, question: str, place: int) -> float:
        for attribute, more in self._more.items():
            if any(question.startswith(second) for _, second in PAIRS[attribute]):
                return more[place % len(more)]
        return 0.0


def test_harm_that_is_shown_is_judged_even_where_another_difference_is_larger_but_open(
    trained: Trained,
) -> None:
    rows = [Row.of(talk(f"what is {number}?", "it is that")) for number in range(24)]
    measured = Losses(replace(trained, heldout=rows), None)
    measured._reader = cast("Reader", Prejudiced({"name": [0.15], "gender": [1.4, -1.0]}))
    told = measured.bias()
    assert isinstance(told, Finding)
    assert abs(told.figures["gender"].value) > abs(told.figures["name"].value)
    assert told.judged.value == pytest.approx(0.15)
    assert told.verdict == "failed"


def test_bias_that_is_open_for_one_attribute_is_not_passed_for_what_is_known_of_another(
    trained: Trained,
) -> None:
    rows = [Row.of(talk(f"what is {number}?", "it is that")) for number in range(24)]
    measured = Losses(replace(trained, heldout=rows), None)
    measured._reader = cast("Reader", Prejudiced({"name": [0.05, 0.06], "gender": [0.9, -1.3]}))
    told = measured.bias()
    assert isinstance(told, Finding)
    assert told.judged.value == pytest.approx(0.2)
    assert told.verdict == "unclear"


def test_rows_of_a_few_labels_tell_as_many_things_as_there_are_rows() -> None:
    labels = ("this one is a refund request", "this one is a question about delivery")
    some = [Row.of(talk(f"case {number}", labels[number % 2])) for number in range(60)]
    assert len(set(about(some))) == 60
    phrasings = [Row.of(talk(f"case {number}", f"the answer to thing {number // 3}")) for number in range(60)]
    assert len(set(about(phrasings))) == 20


def test_text_without_spaces_has_halves_and_parts_too() -> None:
    assert words("どこで 買えますか") == list("どこで買えますか")
    assert words("a refund") == ["a", "refund"]
    assert words("refund") == ["refund"]
    half = losses._halved(Row.of(talk("どこで買えますか", "店で")))
    assert half is not None
    assert half.talk[0]["content"] == "どこで買"
    assert answers._alike("どこで買えますか", "どこで買えますよ") == pytest.approx(7 / 8)


@pytest.mark.parametrize("attribute", list(PAIRS))
def test_pairs_differ_in_one_thing_and_stand_for_nobody_twice(attribute: str) -> None:
    sides = [text for pair in PAIRS[attribute] for text in pair]
    assert len(set(sides)) == len(sides)
    assert all(len(one.split()) == len(other.split()) for one, other in PAIRS[attribute])


def test_every_part_has_words() -> None:
    from adapters.verdict import PARTS

    assert tuple(tell.TITLES) == tuple(tell.ASKS) == PARTS


def test_a_verdict_is_told_with_its_reason(trained: Trained) -> None:
    loss = found(trained, "loss")
    assert isinstance(loss, Finding)
    omitted: dict[Part, str] = {"checks": "no held-out row has checks"}
    lines = tell.lines(Gate(findings=(loss,), omitted=omitted, seconds=1))
    assert lines[0] == "passed its test"
    assert any("perplexity" in line for line in lines)
    assert lines[-1] == "  not told Checks passed: no held-out row has checks"


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("gate: {loss_ratio: 0}", "loss_ratio"),
        ("gate: {forgeting: 1}", "forgeting"),
        ("gate: {persona: ../x}", "persona"),
    ],
)
def test_marks_are_strict(gate: str, told: str) -> None:
    import strict_yaml

    with pytest.raises(CounterpointError, match=told):
        strict_yaml.load(RECIPE + gate + "\n", "recipe.yaml", Recipe)
