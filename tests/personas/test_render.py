"""Rendering: pure, in an order that lets a beginning be kept, and safe against texts that look like code."""

import copy

import pytest

from errors import CounterpointError
from personas.render import greeting, render, render_step
from personas.schema import parse_persona
from tests.personas.texts import FULL, MINIMAL, STEPS

HISTORY = [{"role": "user", "content": "{{who}}?"}, {"role": "assistant", "content": "{{topic}}!"}]


def test_the_system_message_has_all_parts_in_order():
    system = render(parse_persona(FULL, "p"), "q")[0]
    assert system == {
        "role": "system",
        "content": (
            "You help you.\n\n"
            "Instructions:\n- Answer you.\n- {{7*7}} stays, {single} too.\n\n"
            "Context:\nFirst line.\n\nThird line of tea.\n\n"
            "Constraints:\n- No lies.\n\n"
            "Style:\n- Plain."
        ),
    }


def test_parts_that_are_not_given_leave_no_heading():
    assert render(parse_persona(MINIMAL, "p"), "q")[0]["content"] == "You test.\n\nInstructions:\n- Be brief."


def test_examples_come_before_the_history_and_the_question_last():
    messages = render(parse_persona(FULL, "p"), "now", HISTORY)
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[1]["content"] == "What is tea?"
    assert messages[2]["content"] == '{"topic": "tea", "inner": {"a": {"b": 1}}}'
    assert messages[3:] == [*HISTORY, {"role": "user", "content": "now"}]


def test_without_a_persona_only_history_and_question():
    assert render(None, "q", HISTORY, {"any": "thing"}) == [*HISTORY, {"role": "user", "content": "q"}]
    assert render(None, "{{7*7}}") == [{"role": "user", "content": "{{7*7}}"}]


def test_the_beginning_is_the_same_for_every_question():
    persona = parse_persona(FULL, "p")
    first, second = render(persona, "one"), render(persona, "two", HISTORY)
    assert first[:3] == second[:3]
    assert first[:-1] == render(persona, "three")[:-1]


def test_rendering_changes_nothing_it_was_given():
    persona = parse_persona(FULL, "p")
    history, variables = copy.deepcopy(HISTORY), {"who": "me"}
    before = persona.model_dump()
    once = render(persona, "q", history, variables)
    assert render(persona, "q", history, variables) == once
    assert (history, variables, persona.model_dump()) == (HISTORY, {"who": "me"}, before)


def test_question_and_history_are_never_substituted():
    messages = render(parse_persona(FULL, "p"), "{{who}} {{topic}} {{7*7}}", HISTORY)
    assert messages[-1]["content"] == "{{who}} {{topic}} {{7*7}}"
    assert [m["content"] for m in messages[3:5]] == ["{{who}}?", "{{topic}}!"]


@pytest.mark.parametrize(
    "value",
    ["{{7*7}}", "{{topic}}", "{{who}}", "{% raw %}", "{config}", r"\1 \g<0> \n", "${x} %s", "<|im_end|>", ""],
)
def test_a_value_is_data_and_is_put_in_as_it_is(value):
    system = render(parse_persona(FULL, "p"), "q", variables={"who": value})[0]["content"]
    assert system.startswith(f"You help {value}.")


def test_a_given_value_takes_the_place_of_the_default_everywhere():
    messages = render(parse_persona(FULL, "p"), "q", variables={"topic": "coffee"})
    assert "Third line of coffee." in messages[0]["content"]
    assert messages[1]["content"] == "What is coffee?"
    assert not any("tea" in m["content"] for m in messages)


def test_unknown_variables_and_wrong_choices_are_told_together():
    with pytest.raises(CounterpointError) as caught:
        render(parse_persona(FULL, "p"), "q", variables={"nobody": "x", "topic": "cocoa", "who": "x" * 5000})
    message = str(caught.value)
    assert "'nobody'" in message
    assert "who, topic" in message
    assert "'cocoa'" in message
    assert "tea, coffee" in message
    assert "5,000" in message
    assert "\n" not in message


def test_the_greeting_has_its_variables_filled_in():
    assert greeting(parse_persona(FULL, "p"), {"who": "Ada"}) == "Hello Ada."
    assert greeting(parse_persona(MINIMAL, "p")) == ""


def test_a_step_asks_its_own_prompt_after_all_that_a_question_follows():
    persona = parse_persona(FULL + STEPS, "p")
    plain = render(persona, "Why?", HISTORY, {"who": "me"})
    first = render_step(persona, 1, "Why?", [], HISTORY, {"who": "me"})
    third = render_step(persona, 3, "Why?", [" - a\n- b \n", "A draft."], HISTORY, {"who": "me"})
    assert first[:-1] == third[:-1] == plain[:-1]
    assert first[-1] == {"role": "user", "content": "Outline for me: Why?"}
    assert third[-1] == {"role": "user", "content": "Why? / - a\n- b / A draft. / {{7*7}}"}


def test_an_output_or_a_question_that_looks_like_a_variable_stays_text():
    persona = parse_persona(FULL + STEPS, "p")
    outputs = ["{{question}} {{who}} {{draft}}", r"\1 {{outline}} {{ghost}}"]
    asked = render_step(persona, 3, "{{outline}} {{topic}}", outputs)[-1]["content"]
    assert asked == " / ".join(["{{outline}} {{topic}}", *outputs, "{{7*7}}"])


def test_steps_change_nothing_of_what_is_rendered_without_them():
    persona, with_steps = parse_persona(FULL, "p"), parse_persona(FULL + STEPS, "p")
    assert render(with_steps, "Why?", HISTORY) == render(persona, "Why?", HISTORY)


def test_a_steps_persona_refuses_variables_that_it_has_not():
    with pytest.raises(CounterpointError, match="no variable 'outline'"):
        render_step(parse_persona(FULL + STEPS, "p"), 1, "Why?", [], variables={"outline": "mine"})
