"""What the page is built from: made once by app.py, shared by all who look at the page."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Literal

from adapters.packing import Exporter
from adapters.store import AdapterStore
from adapters.training.runs import RunStore
from backends.contract import Backend, Rendered
from comparison.backends import Backends
from comparison.live import Comparison, Pane
from comparison.measure.runs import Runs
from comparison.modes import Catalogue, ModeId, ModeInfo
from errors import CounterpointError
from logbook.logbook import Logbook
from personas.store import PersonaStore
from ui import visitor
from ui.setup import adapter_of, language_note, persona_of, server_of
from ui.streaming import Abandoned
from ui.words import say


@dataclass(frozen=True)
class Parts:
    """The rooms that the page calls. What belongs to one person is not here but in `gr.State`."""

    personas: PersonaStore
    adapters: AdapterStore
    catalogue: Catalogue
    comparison: Comparison
    runs: RunStore
    exporter: Exporter
    logbook: Logbook
    measurements: Runs
    abandoned: Abandoned = field(default_factory=Abandoned)
    quantization: Literal["nf4", "none"] = "nf4"
    """What an adapter is trained on, to be used on the base as it is kept here."""
    public: bool = False
    """Whether others than this machine's owner may reach the page: it is served on a public address, or asks for
    keys, as it does behind a proxy. Who reaches it then may not declare servers."""

    @property
    def person(self) -> str:
        """Whose conversations a page shows, and keeps what it asks in: of this machine's owner there is one."""
        return visitor.person() if self.public else ""

    @property
    def backends(self) -> Backends:
        return self.catalogue.backends

    @property
    def backend(self) -> Backend:
        """The main one."""
        return self.backends.get(None)

    def persona_choices(self) -> list[tuple[str, str]]:
        """None, and every persona that can be read, as a list to choose from."""
        found = [(entry.persona.title, entry.name) for entry in self.personas.list() if entry.persona]
        titles = [title for title, _ in found]
        told = [(f"{title} ({name})" if titles.count(title) > 1 else title, name) for title, name in found]
        return [(say("train_no_persona"), ""), *told]

    def modes(self, *picked: str | None) -> list[ModeInfo]:
        """The catalogue's modes, and those of the picked that a declared server does not tell of now: it may not
        have answered yet, or load its adapters anew, and nobody's pick is taken back for that."""
        modes = self.catalogue.list()
        there = {mode.id for mode in modes}
        untold = dict.fromkeys(mode for mode in picked if mode and mode not in there)
        return [*modes, *(info for mode in untold if (info := self._untold(mode, there)))]

    def _untold(self, mode_id: str, there: Container[str]) -> ModeInfo | None:
        server = server_of(mode_id)
        if server not in self.backends.others:
            return None
        mode = ModeId.parse(mode_id)
        if not mode.adapter or (mode.persona and f"persona:{mode.persona}" not in there):
            return None
        title = " + ".join(name for name in (mode.adapter, mode.persona) if name)
        note = say("server_not_told", server=server, adapter=mode.adapter)
        return ModeInfo(mode_id, title, mode.family, False, note, backend=server)

    def mode(self, mode_id: str | None) -> ModeInfo | None:
        """What is known of a mode; None where there is none of that id."""
        return next((mode for mode in self.modes(mode_id) if mode.id == mode_id), None)

    @property
    def languages(self) -> tuple[str, ...]:
        """What the base speaks, as far as it is known; empty where it is not."""
        facts = getattr(self.backend, "facts", None)
        try:
            return tuple(facts(timeout=0).languages) if facts else ()
        except CounterpointError:
            return ()

    @property
    def base_is_known(self) -> bool:
        """Whether adapters can be judged: against a base that is located, loaded or not. A server judges its own."""
        if self.backend.adapters() is not None:
            return True
        try:
            self.adapters.list()
        except CounterpointError:
            return False
        return True

    @property
    def waiting_for(self) -> str:
        """What keeps an answer waiting that is asked for now: the base, while it loads."""
        return say("base_loading") if self.backend.status().state == "loading" else ""

    def preview(self, pane: Pane, question: str) -> Rendered:
        """The exact prompt. Raises CounterpointError at once while there is no base to render it."""
        if not ModeId.parse(pane.mode).backend and self.backend.status().state == "loading":
            raise CounterpointError(say("prompt_later"))
        return self.comparison.preview(pane, question)

    def preview_note(self, pane: Pane) -> str:
        """What to know of that prompt, where others follow it: empty where none does."""
        mode = ModeId.parse(pane.mode)
        persona = (pane.persona if mode.persona else None) or self.catalogue.persona(mode)
        steps = len(persona.steps) if persona else 0
        return say("preview_steps", count=steps) if steps > 1 else ""

    def note(self, mode: ModeInfo | None) -> str | None:
        """What a person should know of a mode before asking it."""
        if mode is None:
            return None
        # Which languages a server's base speaks is not known.
        return mode.note or language_note(mode.language, () if mode.backend else self.languages)

    def about(self, mode_id: str) -> list[str]:
        """What the mode's persona and its adapter are for, in their own words: plain text, a line each."""
        lines = []
        name = persona_of(mode_id)
        if name:
            found = next((entry.persona for entry in self.personas.list() if entry.name == name), None)
            lines += [found.description] if found else []
        adapter = adapter_of(mode_id)
        # A server's adapter of the same name may be another.
        if adapter and not server_of(mode_id):
            try:
                passport = self.adapters.get(adapter).inspection.passport
            except CounterpointError:
                # While no base is known, no adapter can be judged: the mode's note says so.
                return lines
            lines += [passport.description] if passport else []
        return lines
