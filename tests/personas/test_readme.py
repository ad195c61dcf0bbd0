"""What the README tells persona writers is true of the schema."""

import re
from pathlib import Path

from personas.render import render
from personas.schema import Example, Persona, PersonaSampling, Step, Variable, parse_persona

README = (Path(__file__).parents[2] / "personas" / "README.md").read_text()
EXAMPLE = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1]


def test_the_example_is_a_persona_and_gives_every_field():
    persona = parse_persona(EXAMPLE, "README.md")
    assert set(Persona.model_fields) == persona.model_fields_set
    assert set(PersonaSampling.model_fields) == persona.sampling.model_fields_set
    assert any(variable.choices for variable in persona.variables.values())
    assert "{{" not in "".join(message["content"] for message in render(persona, "q"))


def test_every_field_is_documented_and_no_other():
    table = README.split("## The fields")[1].split("\n\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Persona.model_fields)
    for model in (Example, Variable, Step, PersonaSampling):
        for field in model.model_fields:
            assert f"`{field}`" in table, field


def test_the_required_fields_are_those_it_names():
    told = re.search(r"Only (.*?) are required", README)[1]
    assert re.findall(r"`(\w+)`", told) == [n for n, f in Persona.model_fields.items() if f.is_required()]


def test_the_steps_it_shows_are_those_of_a_persona():
    minimal = "name: n\ntitle: T\ndescription: D\nrole: R\ninstructions: [I]\n"
    shown = re.search(r"## Steps.*?```yaml\n(.*?)```", README, re.DOTALL)[1]
    assert len(parse_persona(minimal + shown, "README.md").steps) == 3
