"""Every persona that ships can be used, and keeps to what the interface and the small base need."""

import json
import re
from pathlib import Path

import pytest
import yaml

from personas.render import greeting, render, render_step
from personas.schema import Persona, parse_persona
from personas.store import PersonaStore

LIBRARY = Path(__file__).parents[2] / "personas" / "library"
FACTS = LIBRARY.parents[1] / "adapters" / "datasets" / "source" / "support.facts.yaml"
NAMES = sorted(path.stem for path in LIBRARY.glob("*.yaml"))


@pytest.fixture
def store(tmp_path: Path) -> PersonaStore:
    return PersonaStore(LIBRARY, tmp_path)


@pytest.fixture
def persona(request: pytest.FixtureRequest, store: PersonaStore) -> Persona:
    return store.get(request.param)


def test_enough_personas_ship_and_none_is_bad(store):
    entries = store.list()
    assert [e.problem for e in entries if e.problem] == []
    assert len(entries) >= 12
    assert {
        "support-desk",
        "order-clerk",
        "gazette-reporter",
        "cybersecurity-expert",
        "plain-law",
        "marketing-planner",
    } <= {e.name for e in entries}
    assert sum(e.persona.language == "fr" for e in entries) == 2


@pytest.mark.parametrize("persona", NAMES, indirect=True)
def test_a_shipped_persona_renders_with_nothing_left_open(persona):
    messages = render(persona, "A question")
    assert messages[0]["role"] == "system"
    assert messages[-1] == {"role": "user", "content": "A question"}
    assert not any("{{" in message["content"] for message in messages)
    assert "{{" not in greeting(persona)


@pytest.mark.parametrize("persona", NAMES, indirect=True)
def test_a_shipped_persona_has_examples_questions_and_sampling(persona):
    assert len(persona.examples) >= 2, "the embedded base learns from examples more than from a role"
    assert 1 <= len(persona.questions) <= 3
    assert not set(persona.questions) & {example.user for example in persona.examples}
    assert persona.sampling.temperature is not None
    assert persona.sampling.max_tokens is not None


@pytest.mark.parametrize("persona", NAMES, indirect=True)
def test_a_shipped_persona_round_trips(persona):
    assert parse_persona(persona.to_yaml(), "again.yaml") == persona


def test_the_marketing_planner_asks_for_audience_budget_and_channel(store):
    planner = store.get("marketing-planner")
    assert set(planner.variables) == {"audience", "budget", "channel"}
    given = {
        "audience": "retired sailors",
        "budget": "€12",
        "channel": planner.variables["channel"].choices[-1],
    }
    prompt = "\n".join(message["content"] for message in render(planner, "q", variables=given))
    assert all(value in prompt for value in given.values())


def test_the_support_desk_is_told_every_fact_that_its_adapter_is_taught(store):
    prompt = render(store.get("support-desk"), "q")[0]["content"]
    for fact in yaml.safe_load(FACTS.read_text(encoding="utf-8")):
        if fact["id"] == "off_topic":
            continue
        check = fact["check"]
        told = [text.lower() in prompt.lower() for text in check.get("icontains-all", [])]
        told += [check["icontains"].lower() in prompt.lower()] if "icontains" in check else []
        told += [re.search(check["regex"], prompt) is not None] if "regex" in check else []
        assert told, fact["id"]
        assert all(told), fact["id"]


def test_the_order_clerk_shows_only_answers_that_its_adapter_could_give(store):
    keys = ["customer", "items", "city", "day", "express"]
    for example in store.get("order-clerk").examples:
        answer = json.loads(example.assistant)
        assert list(answer) == keys
        assert all(list(item) == ["product", "quantity"] for item in answer["items"])
        assert example.assistant == json.dumps(answer, ensure_ascii=False)


def test_the_gazette_reporter_shows_the_marks_of_its_style(store):
    for example in store.get("gazette-reporter").examples:
        assert re.match(r"[A-Z]{2,}[!.:] ?[A-Z]{2,}", example.assistant)
        assert "dear reader" in example.assistant.lower()


def test_the_stepwise_editor_shows_every_step_in_the_words_that_it_is_asked_with(store):
    editor = store.get("stepwise-editor")
    assert [step.name for step in editor.steps] == ["outline", "draft", "polish"]
    for place in range(0, len(editor.examples), len(editor.steps)):
        shown = editor.examples[place : place + len(editor.steps)]
        question = shown[0].user.removeprefix("List these notes: ")
        outputs = [example.assistant for example in shown]
        for number, example in enumerate(shown, start=1):
            assert render_step(editor, number, question, outputs[: number - 1])[-1]["content"] == example.user
