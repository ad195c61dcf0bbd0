"""What a server's list of models means: which is the base, which are adapters of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from errors import CounterpointError, WorkFailed

OWN = "counterpoint"
"""Who owns the models of another Counterpoint."""
SGLANG = "sglang"
LLAMA_CPP = frozenset({"llamacpp", "me"})
"""llama-server, and llama-cpp-python's server, which calls every owner "me"."""
OLLAMA = "library"
EXTENDED = frozenset({"vllm", SGLANG, OWN}) | LLAMA_CPP
"""Owners in /v1/models of servers that know top_k, min_p and repetition_penalty, which OpenAI's own refuses and Ollama
passes over."""
COMPLETE = EXTENDED | {OLLAMA}
"""Owners in /v1/models of one's own servers: they list all that they have."""
LONGEST_NAME = 200
LONGEST_ID = 1000
MOST_ADAPTERS = 1000
"""A server's adapters beyond these, in the order of their names, are left out: each is a row of every list of modes,
alone and with every persona."""
_OWN_ADAPTER = "adapter:"


@dataclass(frozen=True, slots=True)
class Offer:
    """A server's base model, and its adapters: their names here to their model ids there.

    `base` is its id there, `base_name` what it is: another Counterpoint calls its base `base`.
    """

    server: str
    base: str
    base_name: str
    adapters: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    left_out: int = 0
    """Adapters beyond the most that are taken."""

    def model(self, adapter: str | None) -> str:
        """The model id to ask for. Raises CounterpointError for an adapter that the server does not have."""
        if adapter is None:
            return self.base
        try:
            return self.adapters[adapter]
        except KeyError:
            known = _listed(self.adapters) or "none"
            raise CounterpointError(
                f"{self.server} has no adapter {adapter}. It has: {known}. Load it there, or pick another mode."
            ) from None


def offered(
    server: str, models: Sequence[Mapping[str, Any]], base: str | None, adapters: Mapping[str, str]
) -> Offer:
    """Reads the entries of /v1/models.

    An adapter is an entry whose `parent` is the base (vLLM, SGLang) or another name of it, which has the same `root`
    (vLLM with several served names), whose id is "BASE:NAME" (Ray Serve LLM), or
    that the configured map names. SGLang lists it as NAME, but is to be asked for "BASE:NAME". The base is the
    configured one, else the only entry that is no adapter; an entry `base` of another Counterpoint is its base.
    A configured base that is not listed is believed of a hosted provider: its list may be a part, or call it
    otherwise. Raises WorkFailed where that leaves none or several.
    Adapters whose names cannot be part of a mode's id are left out, and those beyond MOST_ADAPTERS; these are
    never ones of the map, which is short. Ids that nobody can read are of no model.
    """
    entries = {str(entry["id"]): entry for entry in models if _is_an_id(entry.get("id"))}
    if base is None:
        base = _only_base(server, entries, adapters)
    elif base not in entries and any(entry.get("owned_by") in COMPLETE for entry in entries.values()):
        raise WorkFailed(f"{server} has no model {base}. It has: {_listed(entries)}.")
    entry = entries.get(base, {})
    names = _names(entries, base)
    found = {_name(id_, base): id_ for id_, entry in entries.items() if _is_adapter(id_, entry, base, names)}
    owner = entry.get("owned_by")
    root = entry.get("root")
    name = str(root) if owner == OWN and _is_an_id(root) else base
    usable = {
        name: _asked_as(id_, entries.get(id_, {}), base)
        for name, id_ in {**found, **adapters}.items()
        if _is_usable(name)
    }
    kept = sorted(usable, key=lambda name: (name not in adapters, name))[:MOST_ADAPTERS]
    taken = {name: usable[name] for name in sorted(kept)}
    return Offer(server, base, name, taken, str(owner) if owner else None, len(usable) - len(taken))


def _only_base(server: str, entries: Mapping[str, Mapping[str, Any]], adapters: Mapping[str, str]) -> str:
    if entries.get("base", {}).get("owned_by") == OWN:
        return "base"
    bases = [
        id_
        for id_, entry in entries.items()
        if not entry.get("parent") and id_ not in adapters.values() and id_.rpartition(":")[0] not in entries
    ]
    if bases and set(bases) <= _names(entries, bases[0]):
        return bases[0]
    if not bases:
        raise WorkFailed(f"{server} offers no model: start it with one, or name it as `model`.")
    raise WorkFailed(f"{server} serves several models: name one of them as `model`: {_listed(bases)}.")


def _names(entries: Mapping[str, Mapping[str, Any]], base: str) -> set[str]:
    """All names of a base: those with its root are the same model."""
    root = entries.get(base, {}).get("root")
    bases = {
        id_
        for id_, entry in entries.items()
        if root and entry.get("root") == root and not entry.get("parent")
    }
    return {base} | bases


def _is_adapter(id_: str, entry: Mapping[str, Any], base: str, names: Collection[str]) -> bool:
    return id_ not in names and (entry.get("parent") in names or id_.startswith(f"{base}:"))


def _asked_as(id_: str, entry: Mapping[str, Any], base: str) -> str:
    """The model id that selects an adapter: SGLang answers as the base to all that does not begin with "BASE:"."""
    is_bare = entry.get("parent") == base and not id_.startswith(f"{base}:")
    return f"{base}:{id_}" if is_bare and entry.get("owned_by") == SGLANG else id_


def _name(id_: str, base: str) -> str:
    return id_.removeprefix(f"{base}:").removeprefix(_OWN_ADAPTER)


def _is_an_id(value: Any) -> bool:
    return bool(value) and len(str(value)) <= LONGEST_ID and str(value).isprintable()


def _is_usable(name: str) -> bool:
    """Whether a mode's id can hold the name, and a person read it: "adapter:NAME+persona:PERSONA"."""
    marks = any(mark in name for mark in ("+adapter:", "+persona:"))
    return bool(name.strip()) and name.isprintable() and len(name) <= LONGEST_NAME and not marks


def _listed(ids: Any) -> str:
    some = sorted(ids)
    return ", ".join(some[:20]) + (f" and {len(some) - 20} more" if len(some) > 20 else "")
