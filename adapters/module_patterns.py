r"""Which modules a LoRA configuration means, by PEFT's rules, without running a stranger's regex.

PEFT matches `rank_pattern` and `alpha_pattern` as `re.match(rf"(.*\.)?({key})$", module)`, first key first
(peft/utils/other.py, get_pattern_key), and lists of targets by whole name or suffix after a dot
(peft/tuners/tuners_utils.py, check_target_module_exists). A regular expression from a file can be made to
run for years, so only a small, bounded kind is evaluated; where a pattern is another, the caller is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Matcher = Callable[[str], bool]

MAX_PATTERNS = 1024
MAX_EXPRESSIONS = 16
MAX_PATTERN_LENGTH = 256
LITERAL = re.compile(r"\^?(?:[\w-]|\.|\\\.)+\$?")
# One character or class with at most one + or *, or a group of plain alternatives that does not repeat.
PIECE = re.compile(
    r"\^|\$|(?:\\[.d]|\[[\w-]{1,20}\]|[\w.-])([+*]\??)?|(\((?:\?:)?[\w.\\]+(?:\|[\w.\\]+){0,31}\))"
)


@dataclass(frozen=True, slots=True)
class Patterns:
    """A rank_pattern or alpha_pattern, ready to ask. `refused` holds keys too dangerous to evaluate."""

    values: tuple[tuple[Matcher, float], ...] = ()
    refused: tuple[str, ...] = ()

    def value(self, module: str, default: float) -> float:
        """The value of the first key that matches `module`; `default` where none does."""
        return next((value for matches, value in self.values if matches(module)), default)


def compile_patterns(entries: Mapping[str, float]) -> Patterns:
    """Prepares the entries of a rank_pattern or alpha_pattern, in their order."""
    values: list[tuple[Matcher, float]] = []
    refused: list[str] = []
    expressions = 0
    for key, value in entries.items():
        matcher = _literal(key) if len(key) <= MAX_PATTERN_LENGTH else None
        if matcher is None and expressions < MAX_EXPRESSIONS:
            matcher = _expression(key)
            expressions += 1
        if matcher is None:
            refused.append(key)
        else:
            values.append((matcher, value))
    return Patterns(tuple(values), tuple(refused))


def _literal(key: str) -> Matcher | None:
    """A name as PEFT users write it, in which a bare dot stands for any character."""
    if not LITERAL.fullmatch(key):
        return None
    whole = key.startswith("^")
    text = key.removeprefix("^").removesuffix("$").replace("\\.", "\0")
    wild = [place for place, character in enumerate(text) if character == "."]
    text = text.replace("\0", ".")

    def matches(module: str) -> bool:
        rest, end = module[: len(module) - len(text)], module[len(module) - len(text) :]
        if len(module) < len(text) or (rest and (whole or not rest.endswith("."))):
            return False
        if end == text:
            return True
        return bool(wild) and all(
            ours == theirs or place in wild
            for place, (ours, theirs) in enumerate(zip(text, end, strict=True))
        )

    return matches


def _expression(key: str) -> Matcher | None:
    """A regular expression with at most two repetitions or groups: no more than cubic in a module's name."""
    place, costly = 0, 0
    while place < len(key):
        piece = PIECE.match(key, place)
        if piece is None or len(key) > MAX_PATTERN_LENGTH:
            return None
        costly += bool(piece[1]) + bool(piece[2])
        place = piece.end()
    if costly > 2:
        return None
    try:
        compiled = re.compile(rf"(.*\.)?({key})$")
    except re.error:
        return None
    return lambda module: compiled.match(module) is not None


@dataclass(frozen=True, slots=True)
class Targets:
    """The modules that a configuration adapts.

    `names` None means that the weights decide: a regular expression, or PEFT's own choice. "all-linear" is
    every linear but the output layer, the one that stands at the top of the model.
    """

    names: tuple[str, ...] | None
    all_linear: bool = False
    excluded: tuple[str, ...] = ()
    layers: frozenset[int] | None = None
    layer_lists: tuple[str, ...] = field(default=())

    def select(self, modules: Iterable[str]) -> set[str] | None:
        """The base's linear `modules` that must have weights; None where only the weights can tell."""
        if self.all_linear:
            return {module for module in modules if "." in module and not _ends(module, self.excluded)}
        if self.names is None:
            return None
        return {module for module in modules if self._targets(module) and not _ends(module, self.excluded)}

    def absent(self, modules: Iterable[str]) -> list[str]:
        """The targets that no module of the base answers to."""
        suffixes = {part for module in modules for part in _suffixes(module)}
        return [name for name in self.names or () if name not in suffixes]

    def _targets(self, module: str) -> bool:
        if module in (self.names or ()):
            return True
        if not _ends(module, self.names or ()):
            return False
        return self.layers is None or self._layer(module) in self.layers

    def _layer(self, module: str) -> int | None:
        """The index of the layer that `module` is in: the first number, or the one after a named list."""
        parts = module.split(".")
        for place in range(1, len(parts) - 1):
            if not parts[place].isdigit():
                continue
            if self.layer_lists:
                if parts[place - 1] in self.layer_lists:
                    return int(parts[place])
            elif place >= 2:
                return int(parts[place])
        return None


def _suffixes(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[place:]) for place in range(len(parts))}


def _ends(module: str, names: Iterable[str]) -> bool:
    return not _suffixes(module).isdisjoint(names)
