"""One question through several modes, on a real engine with the tiny base."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.store import AdapterStore
from backends.contract import BaseFacts, Delta, Failed, Message
from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from comparison.backends import Backends
from comparison.live import MAX_PANES, Answered, Comparison, Pane, PaneEvent
from comparison.modes import Catalogue
from errors import CounterpointError
from personas.schema import parse_persona
from personas.store import PersonaStore
from tests import tiny
from tests.comparison.conftest import TELLER

QUESTION = "What is the capital of France?"
MODES = ("base", "persona:teller", "adapter:one", "adapter:one+persona:teller")
SHORT = {"temperature": 0.0, "max_tokens": 12}
HOT = {"temperature": 1.5, "max_tokens": 12}
ENDLESS = {"temperature": 0.0, "max_tokens": 400, "repetition_penalty": 0.5}
"""Greedy with a penalty below 1 repeats itself for ever."""


@pytest.fixture(scope="module")
def backend(
    tiny_base: Path, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalBackend]:
    options = Options(str(tiny_base), "none", "auto", tmp_path_factory.mktemp("engine"))
    made = LocalBackend(options, catalogue.adapters.source)
    made.wait()
    yield made
    made.close()


@pytest.fixture
def comparison(catalogue: Catalogue, backend: LocalBackend) -> Comparison:
    return Comparison(Catalogue(catalogue.personas, catalogue.adapters, Backends(backend)))


def ends(events: Iterator[PaneEvent]) -> list[Answered | Failed]:
    found = {event.pane: event.event for event in events if isinstance(event.event, Answered | Failed)}
    return [found[number] for number in sorted(found)]


def answers(events: Iterator[PaneEvent]) -> list[Answered]:
    found = ends(events)
    assert all(isinstance(end, Answered) for end in found), found
    return [end for end in found if isinstance(end, Answered)]


def settle(backend: LocalBackend) -> dict[str, int]:
    """The engine's figures once its rows have left, or after 50 turns of its loop."""
    for _ in range(50):
        figures = backend.statistics()
        if figures["rows"] == figures["waiting"] == 0:
            break
    return figures


def test_who_asks_is_told_how_likely_the_answers_tokens_were(comparison: Comparison) -> None:
    greedy = {"temperature": 0.0, "max_tokens": 12, "repetition_penalty": 1.0}
    sure, hot = answers(
        comparison.ask(
            QUESTION,
            [Pane("base", sampling=greedy, logprobs=True), Pane("base", sampling=HOT, logprobs=True)],
            seed=7,
        )
    )
    assert sure.logprob is not None
    assert hot.logprob is not None
    assert hot.logprob < sure.logprob < 0


def test_four_modes_give_four_answers_and_each_receipt_is_true(
    comparison: Comparison, catalogue: Catalogue, facts: BaseFacts, tiny_base: Path
) -> None:
    panes = [Pane(mode, sampling=SHORT) for mode in MODES]
    found = answers(comparison.ask(QUESTION, panes, seed=7))
    assert len({answer.answer for answer in found}) == 4
    weights = catalogue.adapters.source("one").weights
    assert [answer.logprob for answer in found] == [None] * 4
    for pane, answer in zip(panes, found, strict=True):
        receipt = answer.receipt.as_dict()
        adapted, prompted = "adapter:one" in pane.mode, "persona:teller" in pane.mode
        seen = comparison.preview(pane, QUESTION)
        assert receipt["prompt"] == seen.prompt
        assert receipt["prompt_tokens"] == seen.prompt_tokens
        assert receipt["prompt_sha256"] == hashlib.sha256(seen.prompt.encode()).hexdigest()
        assert receipt["base"] == facts.id
        assert (
            receipt["base_sha256"]
            == hashlib.sha256((tiny_base / "model.safetensors").read_bytes()).hexdigest()
        )
        assert receipt["quantization"] == "none"
        assert receipt["adapter"] == ("one" if adapted else None)
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        assert receipt["adapter_sha256"] == (sha256 if adapted else None)
        assert receipt["adapter_scale"] == (1.0 if adapted else None)
        assert receipt["persona"] == ("teller" if prompted else None)
        persona = catalogue.personas.get("teller")
        assert receipt["persona_sha256"] == (persona.sha256 if prompted else None)
        assert ("You tell the fox what is so." in receipt["prompt"]) == prompted
        assert QUESTION in receipt["prompt"]
        assert receipt["seed"] == 7
        assert receipt["sampling"]["temperature"] == 0.0
        assert 1 <= receipt["completion_tokens"] <= 12
        assert answer.finish_reason == "length" or receipt["completion_tokens"] < 12
        assert receipt["ttft_s"] > 0
        assert receipt["backend"] == "local"


def test_a_receipt_has_the_documented_fields_in_their_order(comparison: Comparison) -> None:
    [answer] = answers(comparison.ask(QUESTION, [Pane("base", sampling={**SHORT, "stop": ("zq",)})]))
    receipt = answer.receipt.as_dict()
    assert list(receipt) == [
        "base", "base_sha256", "quantization", "adapter", "adapter_sha256", "adapter_scale", "persona",
        "persona_sha256", "prompt", "prompt_sha256", "sampling", "seed", "prompt_tokens", "completion_tokens",
        "ttft_s", "tokens_per_s", "backend", "dtype",
    ]  # fmt: skip
    assert receipt["dtype"] == "float32"
    assert list(receipt["sampling"]) == [
        "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "stop",
        "presence_penalty", "frequency_penalty",
    ]  # fmt: skip
    assert receipt["sampling"]["stop"] == ["zq"]


def test_deltas_of_a_pane_make_up_its_answer(comparison: Comparison) -> None:
    events = list(comparison.ask(QUESTION, [Pane(mode, sampling=SHORT) for mode in MODES]))
    found = answers(iter(events))
    for number in range(len(MODES)):
        deltas = [e.event for e in events if e.pane == number and isinstance(e.event, Delta)]
        assert "".join(delta.text for delta in deltas) == found[number].answer
        assert isinstance([e.event for e in events if e.pane == number][-1], Answered)


def test_the_same_seed_gives_the_same_answers_alone_and_together(comparison: Comparison) -> None:
    panes = [Pane(mode, sampling=HOT) for mode in MODES]
    together = [answer.answer for answer in answers(comparison.ask(QUESTION, panes, seed=11))]
    alone = [answers(comparison.ask(QUESTION, [pane], seed=11))[0].answer for pane in panes]
    other = [answer.answer for answer in answers(comparison.ask(QUESTION, panes, seed=12))]
    assert together == alone
    assert together != other


def test_without_a_seed_one_is_drawn_for_all_panes_and_told(comparison: Comparison) -> None:
    panes = [Pane("base", sampling=HOT), Pane("adapter:one", sampling=HOT)]
    first = answers(comparison.ask(QUESTION, panes))
    seeds = [answer.receipt.as_dict()["seed"] for answer in first]
    assert seeds[0] == seeds[1]
    again = answers(comparison.ask(QUESTION, panes, seed=seeds[0]))
    assert [answer.answer for answer in again] == [answer.answer for answer in first]
    more = answers(comparison.ask(QUESTION, panes))
    assert more[0].receipt.as_dict()["seed"] != seeds[0]


def test_a_draft_persona_acts_on_the_very_next_answer(comparison: Comparison, catalogue: Catalogue) -> None:
    stored = catalogue.personas.get("teller")
    draft = parse_persona(TELLER.replace("what is so", "lies only"), "draft.yaml")
    panes = [
        Pane("persona:teller", sampling=SHORT),
        Pane("persona:teller", persona=draft, sampling=SHORT),
        Pane("base", persona=draft, sampling=SHORT),
    ]
    kept, edited, bare = answers(comparison.ask(QUESTION, panes))
    assert "what is so." in (kept.receipt.identity.prompt or "")
    assert "You tell the fox lies only." in (edited.receipt.identity.prompt or "")
    assert kept.receipt.persona_sha256 == stored.sha256
    assert edited.receipt.persona_sha256 == draft.sha256 != stored.sha256
    assert edited.receipt.as_dict()["persona_draft"] is True
    assert "persona_draft" not in kept.receipt.as_dict()
    assert edited.answer != kept.answer
    assert "lies only" not in (bare.receipt.identity.prompt or "")
    assert bare.receipt.persona is None


def test_a_persona_saved_between_two_questions_acts_on_the_second(
    comparison: Comparison, catalogue: Catalogue
) -> None:
    text = TELLER.replace("name: teller", "name: mine")
    catalogue.personas.save(text)
    [before] = answers(comparison.ask(QUESTION, [Pane("persona:mine", sampling=SHORT)]))
    saved = catalogue.personas.save(text.replace("Be brief.", "Be very long indeed."))
    [after] = answers(comparison.ask(QUESTION, [Pane("persona:mine", sampling=SHORT)]))
    assert "Be very long indeed." not in (before.receipt.identity.prompt or "")
    assert "Be very long indeed." in (after.receipt.identity.prompt or "")
    assert after.receipt.persona_sha256 == saved.sha256
    catalogue.personas.delete("mine")


def test_variables_and_history_go_into_the_prompt_in_their_order(comparison: Comparison) -> None:
    history: tuple[Message, ...] = (
        {"role": "user", "content": "First question"},
        {"role": "assistant", "content": "First answer"},
    )
    pane = Pane("persona:teller", history=history, variables={"whom": "the dog"}, sampling=SHORT)
    [answer] = answers(comparison.ask("Second question", [pane]))
    prompt = answer.receipt.identity.prompt or ""
    parts = ["You tell the dog", "First question", "First answer", "Second question"]
    assert [prompt.index(part) for part in parts] == sorted(prompt.index(part) for part in parts)


def test_an_adapters_strength_changes_the_answer_and_is_told(comparison: Comparison) -> None:
    panes = [Pane("adapter:one", adapter_scale=scale, sampling=SHORT) for scale in (0.0, 1.0, 2.0)]
    panes.append(Pane("base", sampling=SHORT))
    none, full, twice, bare = answers(comparison.ask(QUESTION, panes))
    assert none.answer == bare.answer
    assert len({none.answer, full.answer, twice.answer}) == 3
    assert twice.receipt.as_dict()["adapter_scale"] == 2.0


@pytest.mark.parametrize(
    ("pane", "told"),
    [
        (Pane("persona:nobody"), "no persona nobody"),
        (Pane("adapter:nothing"), "no adapter"),
        (Pane("adapter:dora"), "DoRA"),
        (Pane("tuned"), "is not a mode"),
        (Pane("adapter:one", adapter_scale=4.5), "strength lies between 0 and 4"),
        (Pane("adapter:one", adapter_scale=-0.1), "strength lies between 0 and 4"),
        (Pane("adapter:one", adapter_scale=float("nan")), "strength lies between 0 and 4"),
        (Pane("base", sampling={"temperature": 9.0}), "temperature must lie between 0 and 5"),
        (Pane("base", sampling={"temprature": 0.5}), "no such field"),
        (Pane("persona:teller", variables={"who": "x"}), "no variable 'who'"),
        (Pane("base", history=({"role": "user", "content": "word " * 600},)), "512"),
    ],
)
def test_a_pane_that_cannot_be_asked_fails_alone_and_says_why(
    comparison: Comparison, pane: Pane, told: str
) -> None:
    before, bad, after = ends(
        comparison.ask(QUESTION, [Pane("base", sampling=SHORT), pane, Pane("adapter:one", sampling=SHORT)])
    )
    assert isinstance(before, Answered)
    assert isinstance(after, Answered)
    assert isinstance(bad, Failed)
    assert told.lower() in bad.message.lower()


def test_a_run_in_which_every_pane_is_bad_ends(comparison: Comparison) -> None:
    found = ends(comparison.ask(QUESTION, [Pane("persona:nobody"), Pane("adapter:nothing")]))
    assert [type(end) for end in found] == [Failed, Failed]


@pytest.mark.parametrize("question", ["", "  \n "])
def test_an_empty_question_is_refused(comparison: Comparison, question: str) -> None:
    with pytest.raises(CounterpointError, match="type one first"):
        list(comparison.ask(question, [Pane("base")]))


@pytest.mark.parametrize("count", [0, MAX_PANES + 1])
def test_none_or_too_many_panes_are_refused(comparison: Comparison, count: int) -> None:
    with pytest.raises(CounterpointError, match=f"1 to 6 panes, not {count}"):
        list(comparison.ask(QUESTION, [Pane("base")] * count))


def test_six_panes_are_answered(comparison: Comparison) -> None:
    found = answers(comparison.ask(QUESTION, [Pane(mode, sampling=SHORT) for mode in (*MODES, *MODES[:2])]))
    assert [answer.answer for answer in found[4:]] == [answer.answer for answer in found[:2]]


def test_a_preview_that_cannot_be_asked_says_why(comparison: Comparison) -> None:
    with pytest.raises(CounterpointError, match="no persona nobody"):
        comparison.preview(Pane("persona:nobody"), QUESTION)


def test_one_pane_is_stopped_and_the_others_go_on(comparison: Comparison) -> None:
    panes = [Pane("base", sampling=ENDLESS), Pane("adapter:one", sampling={**ENDLESS, "max_tokens": 40})]
    seen = {0: 0, 1: 0}
    found: dict[int, Answered] = {}
    for event in comparison.ask(QUESTION, panes, run_id="run"):
        if isinstance(event.event, Delta):
            seen[event.pane] += 1
            if event.pane == 0 and seen[0] == 4:
                comparison.stop("run", 0)
        elif isinstance(event.event, Answered):
            found[event.pane] = event.event
    assert found[0].finish_reason == "cancelled"
    assert 0 < found[0].receipt.usage.completion_tokens < 400
    assert found[0].answer
    assert found[1].finish_reason != "cancelled"
    assert found[1].receipt.usage.completion_tokens == 40


def test_a_run_is_stopped_as_a_whole_and_another_run_goes_on(comparison: Comparison) -> None:
    other = comparison.ask(QUESTION, [Pane("base", sampling={**ENDLESS, "max_tokens": 30})], run_id="other")
    first = next(other)
    run = comparison.ask(QUESTION, [Pane("base", sampling=ENDLESS)] * 2, run_id="run")
    next(event for event in run if isinstance(event.event, Delta))
    comparison.stop("run")
    assert [answer.finish_reason for answer in answers(run)] == ["cancelled", "cancelled"]
    assert isinstance(first.event, Delta)
    assert [answer.receipt.usage.completion_tokens for answer in answers(other)] == [30]


def test_closing_the_iterator_leaves_nothing_running(comparison: Comparison, backend: LocalBackend) -> None:
    run = comparison.ask(QUESTION, [Pane("base", sampling=ENDLESS), Pane("adapter:one", sampling=ENDLESS)])
    next(event for event in run if isinstance(event.event, Delta))
    assert backend.statistics()["rows"] == 2
    run.close()  # type: ignore[attr-defined]
    figures = settle(backend)
    assert (figures["rows"], figures["waiting"], figures["kv_bytes"]) == (0, 0, 0)


def test_an_adapter_found_without_effect_is_unusable_in_the_list_from_then_on(
    tiny_base: Path, tmp_path: Path
) -> None:
    tiny.make_adapter(tmp_path / "library" / "nothing", tiny_base, scale=1e-4)
    made: list[LocalBackend] = []
    adapters = AdapterStore(tmp_path / "library", tmp_path / "data", lambda: made[0].facts())
    made.append(LocalBackend(Options(str(tiny_base), "none", "auto", tmp_path / "cache"), adapters.source))
    with closing(made[0]) as backend:
        backend.wait()
        personas = PersonaStore(tmp_path / "personas", tmp_path / "data")
        catalogue = Catalogue(personas, adapters, Backends(backend))
        assert catalogue.adapters.get("nothing").usable
        comparison = Comparison(catalogue)
        (event,) = [event.event for event in comparison.ask("Why?", [Pane("adapter:nothing")])]
        assert isinstance(event, Failed)
        entry = adapters.get("nothing")
        assert not entry.usable
        assert "no effect" in entry.inspection.problems[0]
        assert comparison.probe("nothing") is not None
