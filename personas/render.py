"""From a persona and a conversation to chat messages: a pure function.

What a persona always says comes first and is the same for every question, so that an engine can keep the
beginning it has already read; the question, which varies, comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from backends.contract import Message
from errors import CounterpointError
from personas.schema import MAX_VALUE_CHARS, PLACEHOLDER, QUESTION, Persona


def render(
    persona: Persona | None,
    question: str,
    history: Sequence[Message] = (),
    variables: Mapping[str, str] | None = None,
) -> list[Message]:
    """The messages that ask `question` as `persona`: system, examples, history, question.

    Without a persona: the history and the question alone. Variables that are not given keep their defaults. A persona's
    steps play no part: `render_step` renders those.
    Only the persona's own texts are substituted, never the question, the history or a variable's value.
    Raises CounterpointError for a variable that the persona does not have, a value that is not among its
    choices, or one that is too long.
    """
    asked: list[Message] = [*history, {"role": "user", "content": question}]
    if persona is None:
        return asked
    values = variable_values(persona, variables)
    beginning: list[Message] = [{"role": "system", "content": _system(persona, values)}]
    for example in persona.examples:
        beginning.append({"role": "user", "content": filled(example.user, values)})
        beginning.append({"role": "assistant", "content": filled(example.assistant, values)})
    return beginning + asked


def render_step(
    persona: Persona,
    number: int,
    question: str,
    outputs: Sequence[str],
    history: Sequence[Message] = (),
    variables: Mapping[str, str] | None = None,
) -> list[Message]:
    """The messages of the persona's step `number` (from 1 on): its prompt stands in the question's place.

    `outputs` are those of the steps before it, in their order; each is put in without the spaces around it. They and
    the question are put in as they are: what looks like a variable in them stays text. Raises CounterpointError as
    `render` does.
    """
    values = {
        **variable_values(persona, variables),
        QUESTION: question,
        **{step.name: output.strip() for step, output in zip(persona.steps, outputs, strict=False)},
    }
    return render(persona, filled(persona.steps[number - 1].prompt, values), history, variables)


def greeting(persona: Persona, variables: Mapping[str, str] | None = None) -> str:
    """The persona's first words with its variables filled in; empty where it has none.

    Raises CounterpointError as `render` does.
    """
    return filled(persona.greeting, variable_values(persona, variables))


def variable_values(persona: Persona, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The value of every variable: the one given, else the default.

    Raises CounterpointError as `render` does, with every problem at once.
    """
    values = {name: variable.default for name, variable in persona.variables.items()}
    problems = []
    for name, value in (given or {}).items():
        variable = persona.variables.get(name)
        if variable is None:
            has = ", ".join(persona.variables) or "none"
            problems.append(f"has no variable {name!r} (it has: {has})")
        elif variable.choices and value not in variable.choices:
            problems.append(f"does not take {value!r} for {name} (choose: {', '.join(variable.choices)})")
        elif len(value) > MAX_VALUE_CHARS:
            problems.append(
                f"takes at most {MAX_VALUE_CHARS:,} characters for {name}, not {len(value):,}: shorten it"
            )
        else:
            values[name] = value
    if problems:
        raise CounterpointError(f"The persona {persona.name} " + "; it ".join(problems) + ".")
    return values


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with the values of its variables; what is no variable among them stays as typed."""
    # One pass with a function: a value is put in as it is, its own braces and backslashes included.
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def _system(persona: Persona, values: Mapping[str, str]) -> str:
    parts = [
        persona.role,
        _section("Instructions:", _bullets(persona.instructions)),
        _section("Context:", persona.context),
        _section("Constraints:", _bullets(persona.constraints)),
        _section("Style:", _bullets(persona.style)),
    ]
    return filled("\n\n".join(part for part in parts if part), values)


def _section(title: str, body: str) -> str:
    return f"{title}\n{body}" if body else ""


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
