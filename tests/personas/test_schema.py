"""What a persona's file may say, and how all that is wrong with one is told at once."""

import pytest
from pydantic import ValidationError

from backends.contract import Sampling
from errors import CounterpointError
from personas.schema import MAX_FILE_BYTES, Persona, parse_persona
from tests.personas.texts import FULL, MINIMAL, STEPS


def problems(text: str) -> list[str]:
    with pytest.raises(CounterpointError) as caught:
        parse_persona(text, "p.yaml")
    return str(caught.value).split("; ")


def test_every_part_of_a_file_arrives():
    persona = parse_persona(FULL, "full.yaml")
    assert persona.name == "full"
    assert persona.language == "fr"
    assert persona.instructions == ("Answer {{who}}.", "{{7*7}} stays, {single} too.")
    assert persona.context == "First line.\n\nThird line of {{topic}}."
    assert persona.examples[0].user == "What is {{topic}}?"
    assert persona.variables["topic"].choices == ("tea", "coffee", "1e5", "no")
    assert persona.sampling.stop == ("\n", "4.")
    assert persona.questions == ("Why?", "How?")


def test_style_may_be_one_text_or_a_list():
    as_text = parse_persona(MINIMAL + "style: Plain.\n", "p.yaml")
    as_list = parse_persona(MINIMAL + "style: [Plain.]\n", "p.yaml")
    assert as_text == as_list
    assert as_text.style == ("Plain.",)


def test_all_problems_are_told_at_once_each_with_its_line():
    text = """\
name: Not A Slug
description: d
role: 3
instructions: [ok, "{{ghost}}"]
rôle: x
title: one
title: two
language: english
examples:
  - user: q
    assistent: a
variables:
  unused: {description: d, default: a}
  size: {description: "{{size}}", default: small, choices: [medium, large]}
sampling: {temperature: 9, seed: 1}
"""
    told = problems(text)
    expected = [
        ("p.yaml:1: name:", "small letters"),
        ("p.yaml:3: role:", "must be text"),
        ("p.yaml:4: instructions[1]:", "{{ghost}}, which is not declared"),
        ("p.yaml:5: rôle:", "not a field"),
        ("p.yaml:7: title:", "given twice (first in line 6)"),
        ("p.yaml:8: language:", "language tag"),
        ("p.yaml:10: examples[0].assistant:", "is missing"),
        ("p.yaml:11: examples[0].assistent:", "not a field"),
        ("p.yaml:13: variables.unused:", "no text uses {{unused}}"),
        ("p.yaml:14: variables.size:", "no text uses {{size}}"),
        ("p.yaml:14: variables.size.default:", "not among the choices"),
        ("p.yaml:15: sampling.seed:", "not a field"),
        ("p.yaml:15: sampling.temperature:", "must lie between 0 and 5"),
    ]
    for place, what in expected:
        assert any(line.startswith(place) and what in line for line in told), (place, told)
    assert len(told) == len(expected)


@pytest.mark.parametrize("field", ["name", "title", "description", "role", "instructions"])
def test_a_missing_required_field_is_named(field):
    kept = "".join(line for line in MINIMAL.splitlines(True) if not line.startswith(field))
    assert problems(kept) == [f"p.yaml:1: {field}: is missing"]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("greeting: 3\n", "greeting"),
        ("context: [a]\n", "context"),
        ("tags: one\n", "tags"),
        ("examples: {user: a, assistant: b}\n", "examples"),
        ("variables: [a]\n", "variables"),
        ('sampling: {temperature: "0.3"}\n', "sampling.temperature"),
        ("sampling: {top_k: 1.5}\n", "sampling.top_k"),
        ("sampling: {max_tokens: 0}\n", "sampling.max_tokens"),
        ("sampling: {stop: end}\n", "sampling.stop"),
        ("questions: [a, b, c, d]\n", "questions"),
        ("language: true\n", "language"),
    ],
)
def test_a_wrong_type_or_size_is_refused_at_its_line(line, field):
    told = problems(MINIMAL + line)
    assert len(told) == 1
    assert told[0].startswith(f"p.yaml:6: {field}: ")


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "A", "-a", "a-", "a--b", "a.b", "a b", "é", "a\\n", "x" * 65]
)
def test_a_name_is_a_slug(name):
    told = problems(MINIMAL.replace("name: tester", f'name: "{name}"'))
    assert told[0].startswith("p.yaml:1: name: ")


def test_a_variable_used_only_in_an_example_or_the_greeting_counts_as_used():
    variables = "variables: {a: {description: d, default: x}, b: {description: d, default: y}}\n"
    texts = 'examples: [{user: "{{a}}", assistant: ok}]\ngreeting: "{{ b }}"\n'
    assert set(parse_persona(MINIMAL + texts + variables, "p.yaml").variables) == {"a", "b"}


def test_braces_that_are_no_variable_are_text():
    persona = parse_persona(MINIMAL + "context: '{{7*7}} {{ }} {{a.b}} {% x %} ${y} {{{}}}'\n", "p.yaml")
    assert persona.context == "{{7*7}} {{ }} {{a.b}} {% x %} ${y} {{{}}}"


def test_a_file_too_large_is_refused_before_it_is_read():
    padding = "# " + "é" * (MAX_FILE_BYTES // 2)
    with pytest.raises(CounterpointError, match="may have 262,144"):
        parse_persona(MINIMAL + padding, "p.yaml")


@pytest.mark.parametrize("field", ["role", "greeting", "title"])
def test_an_overlong_text_is_refused(field):
    kept = "".join(line for line in MINIMAL.splitlines(True) if not line.startswith(field))
    assert any(f": {field}: " in line for line in problems(kept + f"{field}: {'x' * 9000}\n"))


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "a: b: c", "name: &a x\ntitle: *a", "!!python/name:os.system", "\x00"]
)
def test_what_is_no_persona_at_all_is_one_plain_error(text):
    assert all(line.startswith("p.yaml:") for line in problems(text))


@pytest.mark.parametrize("text", [MINIMAL, FULL])
def test_yaml_round_trips(text):
    persona = parse_persona(text, "p.yaml")
    again = parse_persona(persona.to_yaml(), "again.yaml")
    assert again == persona
    assert again.sha256 == persona.sha256


@pytest.mark.parametrize(
    "value",
    [
        "1e5",
        "no",
        "null",
        "~",
        "0x1F",
        "1:30",
        "# a",
        "- a",
        "a: b",
        "'",
        '"',
        " x",
        "x\n y\n",
        "é\u2028b",
        "🙂",
        "a\r\nb",
        "{{7*7}}",
        "2026-01-01",
        "true",
        "x #y",
    ],
)
def test_awkward_texts_round_trip(value):
    persona = parse_persona(MINIMAL, "p.yaml").model_copy(update={"context": value})
    assert parse_persona(persona.to_yaml(), "again.yaml").context == value.strip()


def test_the_sha256_is_of_what_is_said_not_of_the_layout():
    original = parse_persona(FULL, "p.yaml")
    reordered = (
        "# a comment\n" + "greeting: Hello {{who}}.\n" + FULL.replace("greeting: Hello {{who}}.\n", "")
    )
    assert parse_persona(reordered, "p.yaml").sha256 == original.sha256
    swapped = original.model_copy(update={"variables": dict(reversed(original.variables.items()))})
    assert swapped.sha256 == original.sha256
    assert parse_persona(FULL.replace("No lies.", "No lies!"), "p.yaml").sha256 != original.sha256


def test_a_persona_cannot_be_changed():
    persona = parse_persona(FULL, "p.yaml")
    with pytest.raises(ValidationError):
        persona.role = "x"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        persona.sampling.temperature = 1.0  # type: ignore[misc]


def test_sampling_lays_its_own_values_over_the_defaults():
    defaults = Sampling(temperature=0.7, seed=5, max_tokens=300)
    persona = parse_persona(MINIMAL + "sampling: {temperature: 0, stop: [end]}\n", "p.yaml")
    assert persona.sampling.over(defaults) == Sampling(temperature=0, seed=5, max_tokens=300, stop=("end",))
    assert parse_persona(MINIMAL, "p.yaml").sampling.over(defaults) == defaults


def test_persona_refuses_what_is_unknown_also_without_a_file():
    with pytest.raises(ValidationError):
        Persona(name="a", title="t", description="d", role="r", instructions=("i",), other=1)  # type: ignore[call-arg]


def test_steps_arrive_in_their_order():
    persona = parse_persona(FULL + STEPS, "p.yaml")
    assert [(step.name, step.max_tokens) for step in persona.steps] == [
        ("outline", 20),
        ("draft", None),
        ("polish", None),
    ]
    assert parse_persona(persona.to_yaml(), "again.yaml") == persona


def test_a_persona_without_steps_has_the_sha256_that_it_always_had():
    persona = parse_persona(MINIMAL, "p.yaml")
    assert persona.sha256 == "67a57046a4e91944b38d66dbed39217535c84f7625cca580ad67b2e37102ac99"
    assert parse_persona(MINIMAL + "steps: []\n", "p.yaml").sha256 == persona.sha256
    assert parse_persona(FULL + STEPS, "p.yaml").sha256 != parse_persona(FULL, "p.yaml").sha256


def test_a_variable_used_only_in_a_step_counts_as_used():
    text = (
        'variables: {a: {description: d, default: x}}\nsteps: [{name: one, prompt: "{{a}} {{question}}"}]\n'
    )
    assert parse_persona(MINIMAL + text, "p.yaml").steps[0].prompt == "{{a}} {{question}}"


def test_all_that_is_wrong_with_steps_is_told_at_once_each_with_its_line():
    text = """\
variables:
  topic: {description: What, default: tea}
  lost: {description: Unused, default: x}
steps:
  - name: one
    prompt: "{{topic}} {{two}} {{one}} {{ghost}}"
  - name: topic
    prompt: "{{one}}"
  - name: two
    max_tokens: 0
  - name: one
    prompt: "{{two}}"
    stop: [x]
  - name: question
    prompt: "{{one}}"
  - name: 2nd
    prompt: ""
"""
    told = problems(MINIMAL + text)
    expected = [
        ("p.yaml:8: variables.lost:", "no text uses {{lost}}"),
        ("p.yaml:11: steps[0].prompt:", "{{two}}, which is not there before its own step has ended"),
        ("p.yaml:11: steps[0].prompt:", "{{one}}, which is not there before its own step has ended"),
        ("p.yaml:11: steps[0].prompt:", "{{ghost}}, which is no variable and no earlier step"),
        ("p.yaml:12: steps[1].name:", "a variable already: 'topic' cannot be both"),
        ("p.yaml:14: steps[2].prompt:", "is missing"),
        ("p.yaml:15: steps[2].max_tokens:", "must lie between 1 and 8192"),
        ("p.yaml:16: steps[3].name:", "an earlier step's name already: 'one' cannot be both"),
        ("p.yaml:18: steps[3].stop:", "not a field"),
        ("p.yaml:19: steps[4].name:", "name the step otherwise"),
        ("p.yaml:21: steps[5].name:", "no digit first"),
        ("p.yaml:22: steps[5].prompt:", "at least 1 characters"),
    ]
    for place, what in expected:
        assert any(line.startswith(place) and what in line for line in told), (place, what, told)
    assert len(told) == len(expected), told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: one\n", "steps: must be a list"),
        ("steps: [one]\n", "steps[0]: must be a mapping"),
        ('steps: [{name: one, prompt: "Think."}]\n', "steps: no prompt uses {{question}}"),
        (
            "steps:\n" + "".join(f'  - {{name: s{n}, prompt: "{{{{question}}}}"}}\n' for n in range(9)),
            "takes at most 8",
        ),
        (
            'greeting: "{{question}}"\nvariables: {question: {description: d, default: x}}\n'
            'steps: [{name: one, prompt: "{{question}}"}]\n',
            "variables.question: is what steps call the question itself",
        ),
        (
            'greeting: "{{one}}"\nsteps: [{name: one, prompt: "{{question}}"}]\n',
            "greeting: uses {{one}}, which is not declared",
        ),
    ],
)
def test_what_is_wrong_with_steps_is_refused(text, told):
    assert [told in line for line in problems(MINIMAL + text)] == [True]
