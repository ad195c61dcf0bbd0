"""Every persona that ships can be used, and keeps to what the interface and the small base need."""

from pathlib import Path

import pytest

from personas.render import greeting, render
from personas.schema import Persona, parse_persona
from personas.store import PersonaStore

LIBRARY = Path(__file__).parents[2] / "personas" / "library"
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
