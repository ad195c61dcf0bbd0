"""Links that set the page up: modes, question, seed, strengths, sampling, variables. A link asks nothing by itself."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

from comparison.live import MAX_PANES
from comparison.modes import ModeInfo
from errors import CounterpointError
from ui import setup
from ui.words import say

MAX_LINK_CHARS = 8_000


@dataclass(frozen=True, slots=True)
class Link:
    """A set-up that a link carries. `problems` says what in the link could not be used, a line each.

    `scales` has a strength for each mode; `sampling` holds what was set, the seed apart; `variables` are
    by persona. `absent` are modes that the link asks for and that are not here: None in `modes`, so that no
    other mode answers in their place.
    """

    modes: tuple[str | None, ...] = ()
    question: str = ""
    seed: int | None = None
    scales: tuple[float, ...] = ()
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def read_link(query: str, modes: Sequence[ModeInfo]) -> Link:
    """The set-up in "?mode=…&mode=…&q=…&seed=…&scale=…&scale=…&temperature=…&PERSONA.VARIABLE=…"; what cannot
    be used is left out and named."""
    if len(query) > MAX_LINK_CHARS:
        return Link(problems=(say("link_too_long", limit=f"{MAX_LINK_CHARS:,}"),))
    try:
        parsed = parse_qs(query.lstrip("?"), keep_blank_values=True, max_num_fields=50, errors="replace")
    except ValueError:
        return Link(problems=(say("link_too_many_fields"),))
    # An empty variable is a value; anything else that is empty was not given.
    values = {
        name: kept for name, texts in parsed.items() if (kept := [t for t in texts if t or "." in name])
    }
    known = {mode.id for mode in modes}
    wanted = _wanted(values.get("mode", []), known)
    scales, problems = _scales(values.get("scale", []), len(wanted))
    chosen = [(mode if mode in known else None, scale) for mode, scale in zip(wanted, scales, strict=True)]
    absent = tuple(mode for mode in wanted[:MAX_PANES] if mode not in known)
    if absent:
        told = ", ".join(mode[:80] for mode in absent)
        problems.append(say("link_no_mode" if len(absent) == 1 else "link_no_modes", mode=told))
    if len(chosen) > MAX_PANES:
        problems.append(say("link_too_many", limit=MAX_PANES))
        chosen = chosen[:MAX_PANES]
    seed, seed_problem = _seed(values.get("seed", [""])[0])
    sampling, sampling_problems = _sampling(values)
    return Link(
        modes=tuple(mode for mode, _ in chosen),
        question=values.get("q", [""])[0],
        seed=seed,
        scales=tuple(scale for _, scale in chosen),
        sampling=sampling,
        variables=_variables(values),
        problems=(*problems, *seed_problem, *sampling_problems),
        absent=absent,
    )


def write_link(
    modes: Sequence[str],
    question: str,
    seed: int | None,
    scales: Sequence[float] = (),
    sampling: Mapping[str, float | int] | None = None,
    variables: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The query that `read_link` reads back to the same set-up. Strengths are told only where one is not 1.

    Raises CounterpointError where it would be longer than a link may be.
    """
    pairs = [("mode", mode) for mode in modes]
    if question:
        pairs.append(("q", question))
    if seed is not None:
        pairs.append(("seed", str(seed)))
    if any(scale != 1 for scale in scales):
        pairs += [("scale", f"{scale:g}") for scale in scales]
    pairs += [(name, str(value)) for name, value in (sampling or {}).items() if name != "seed"]
    for persona, values in (variables or {}).items():
        pairs += [(f"{persona}.{name}", value) for name, value in values.items()]
    query = "?" + urlencode(pairs)
    if len(query) > MAX_LINK_CHARS:
        raise CounterpointError(say("link_too_long", limit=f"{MAX_LINK_CHARS:,}"))
    return query


def _wanted(texts: Sequence[str], known: Collection[str]) -> list[str]:
    """The ids that a link asks for. A form decodes "+" as a space, and nobody who types a link by hand writes %2B;
    but the name of a server's adapter may hold a space."""
    typed = {mode.replace("+", " "): mode for mode in known}
    return [
        text if text in known else typed.get(text.replace("+", " "), text.replace(" ", "+"))
        for text in map(str.strip, texts)
    ]


def _scales(texts: Sequence[str], panes: int) -> tuple[list[float], list[str]]:
    """A strength for each pane, 1 where the link says none that can be used."""
    problems = [say("link_many_scales")] if len(texts) > panes else []
    scales = []
    for text in [*texts[:panes], *["1"] * (panes - len(texts))]:
        scale = _number(text)
        if scale is None or not 0 <= scale <= setup.MAX_STRENGTH:
            problems.append(say("link_bad_scale", limit=f"{setup.MAX_STRENGTH:g}", scale=text[:40]))
            scale = 1.0
        scales.append(scale)
    return scales, problems


def _sampling(values: Mapping[str, Sequence[str]]) -> tuple[dict[str, float | int], list[str]]:
    found: dict[str, float | int] = {}
    problems = []
    for name in setup.SAMPLING:
        if name == "seed" or name not in values:
            continue
        try:
            found |= setup.sampling({name: values[name][0][:40]})
        except CounterpointError as error:
            problems.append(say("link_bad_sampling", problem=str(error)))
    return found, problems


def _variables(values: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Values of personas' variables, by persona; whether those have them is not known here."""
    found: dict[str, dict[str, str]] = {}
    for key, texts in values.items():
        persona, dot, name = key.partition(".")
        if dot:
            found.setdefault(persona, {})[name] = texts[0]
    return found


def _seed(text: str) -> tuple[int | None, list[str]]:
    if not text:
        return None, []
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63:
        return int(text), []
    return None, [say("link_bad_seed", seed=text[:40])]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
