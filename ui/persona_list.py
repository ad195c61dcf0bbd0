"""The list of personas: what stands in it, found by words and by tag, with what to know of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from personas.schema import Persona
from personas.store import PersonaEntry
from ui import setup
from ui.parts import Parts
from ui.words import say

Choices = list[tuple[str, str]]
"""(label, name) of each persona."""


def choices(parts: Parts, drafts: Mapping[str, Persona], words: str = "", tag: str | None = None) -> Choices:
    """The personas there are now that match every word and the tag."""
    entries, languages = parts.personas.list(), parts.languages
    notes = {
        entry.name: setup.language_note(entry.persona.language, languages)
        for entry in entries
        if entry.persona
    }
    return listed(entries, notes, drafts, words, tag)


def found(
    parts: Parts, drafts: Mapping[str, Persona], words: str, tag: str | None, selected: str | None
) -> Choices:
    """What matches, and the persona that is open: it can still be saved."""
    matching = choices(parts, drafts, words, tag)
    if selected and selected not in [name for _, name in matching]:
        kept = [(title, name) for title, name in choices(parts, drafts) if name == selected]
        matching += [(say("no_match", title=title), name) for title, name in kept]
    return matching


def listed(
    entries: Sequence[PersonaEntry],
    notes: Mapping[str, str | None],
    drafts: Mapping[str, Persona],
    words: str = "",
    tag: str | None = None,
) -> list[tuple[str, str]]:
    """(label, name) of the personas that match every word and the tag, with what to know of each."""
    rows = []
    titles = Counter(entry.persona.title for entry in entries if entry.persona)
    for entry in entries:
        persona = entry.persona
        if persona is None:
            title, text = entry.name, entry.name
        else:
            title = persona.title
            text = " ".join((entry.name, title, persona.description, *persona.tags)).lower()
        if (tag and (persona is None or tag not in persona.tags)) or not all(
            word in text for word in words.lower().split()
        ):
            continue
        marks = [entry.name] if titles[title] > 1 else []
        marks += [say("mark_yours")] if entry.origin == "yours" else []
        marks += [say("mark_draft")] if entry.name in drafts else []
        marks += [say("mark_broken")] if persona is None else []
        marks += [notes[entry.name] or ""] if notes.get(entry.name) else []
        rows.append((" · ".join([title, *marks]), entry.name))
    return rows


def tags(entries: Sequence[PersonaEntry]) -> list[str]:
    return sorted({tag for entry in entries if entry.persona for tag in entry.persona.tags})
