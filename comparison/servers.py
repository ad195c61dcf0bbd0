"""The servers that a person has declared: one strict YAML file in the data folder. Keys are never in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

import durable
import strict_yaml
from errors import CounterpointError, WorkFailed

FILE = "servers.yaml"
MAX_SERVERS = 20
LOCAL = "local"
MAIN = "server"
"""The name of a server that is given by its address alone."""
KEY_PREFIX = "COUNTERPOINT_KEY_"
"""How every variable begins that may hold a declared server's key."""
KEY_VARIABLE = re.compile(KEY_PREFIX + r"[A-Za-z0-9_]{1,80}")
LOCK_S = 10.0
"""How long who saves waits for another who does."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class Declared(BaseModel):
    """One server that speaks the OpenAI API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """As it stands before its modes: NAME/base. Small letters, digits and hyphens."""
    url: str
    """Where its API begins, mostly ending in /v1."""
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The base's id there; needed where it serves several models."""
    key_env: str | None = None
    """The environment variable that holds its key."""
    adapters: dict[str, str] = Field(default_factory=dict, max_length=200)
    """Names of adapters to model ids, for a server that does not tell which of its models are adapters."""
    extended: bool | None = None
    """Whether it knows top_k, min_p and repetition_penalty; told by who owns its models where it is left out."""
    silence_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """How many seconds it may send nothing."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or name == LOCAL:
            raise ValueError(f"must be 1 to 32 small letters, digits and hyphens, and not {LOCAL!r}")
        return name

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            there = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # of a port that is no number up to 65535, or of brackets
            there = False
        # urlsplit drops line breaks and tabs, and what connects later does not.
        if not there or "#" in url or not url.isprintable() or " " in url:
            raise ValueError("must be an address such as http://127.0.0.1:8000/v1, without spaces or #")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no key: name the environment variable that does as key_env")
        return url.rstrip("/")


class Entry(Declared):
    """A server as the file may declare it. Whoever reaches the page can write one, so it must not be able to have
    any variable of this machine's environment sent to an address of theirs."""

    @field_validator("name")
    @classmethod
    def _is_not_taken(cls, name: str) -> str:
        if name == MAIN:
            raise ValueError(f"must not be {MAIN!r}: that is the server which --backend gives by its address")
        return name

    @field_validator("key_env")
    @classmethod
    def _is_for_keys(cls, name: str | None) -> str | None:
        if name is not None and not KEY_VARIABLE.fullmatch(name):
            raise ValueError(
                f"must be a variable whose name begins with {KEY_PREFIX}, such as {KEY_PREFIX}GPU, never the key itself"
            )
        return name


class Declarations(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: tuple[Entry, ...] = Field(default=(), max_length=MAX_SERVERS)

    @model_validator(mode="after")
    def _each_name_once(self) -> Declarations:
        names = [server.name for server in self.servers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two servers are called {twice[0]}: give each a name of its own")
        return self


class ServerStore:
    """Reads and writes the file; holds nothing."""

    def __init__(self, data: Path):
        self.path = data / FILE

    def list(self) -> tuple[Entry, ...]:
        """Raises CounterpointError with every problem of the file, each with its line."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise CounterpointError(f"{self.path} cannot be read ({error}): mend or remove it.") from None
        try:
            return strict_yaml.load(text, FILE, Declarations).servers if text.strip() else ()
        except CounterpointError as error:
            raise CounterpointError(f"{str(error).rstrip('.')} (in {self.path.parent}).") from None

    def save(self, server: Declared, instead: str | None = None) -> None:
        """Adds a server, or puts it in the place of the one named `instead`, whose name may be another.

        Raises ValueError for what is no Entry, CounterpointError for the name of another server.
        """
        entry = Entry.model_validate(server.model_dump())
        with self._locked():
            there = self.list()
            if entry.name in {each.name for each in there if each.name != instead}:
                raise CounterpointError(
                    f"There is a server {entry.name} already: choose it in the list to change it, or give another name."
                )
            kept = tuple(entry if each.name == instead else each for each in there)
            if entry not in kept:
                kept = (*kept, entry)
            if len(kept) > MAX_SERVERS:
                raise CounterpointError(f"There are {MAX_SERVERS} servers already: remove one first.")
            self._write(kept)

    def remove(self, name: str) -> None:
        """Raises CounterpointError for a name that is not there."""
        with self._locked():
            servers = self.list()
            kept = tuple(each for each in servers if each.name != name)
            if len(kept) == len(servers):
                known = ", ".join(each.name for each in servers) or "none"
                raise CounterpointError(f"There is no server {name}. There are: {known}.")
            self._write(kept)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Around reading and writing, so that nobody's change is lost to another's, of this process or the next."""
        try:
            held = FileLock(self.path.with_name(f".{FILE}.lock")).acquire(timeout=LOCK_S)
        except Timeout:
            raise WorkFailed(f"{self.path} is being written by another: try again.") from None
        except OSError as error:
            raise self._unwritten(error) from None
        with held:
            yield

    def _write(self, servers: tuple[Entry, ...]) -> None:
        told = [server.model_dump(exclude_defaults=True) for server in servers]
        try:
            durable.write(self.path, yaml.safe_dump({"servers": told}, sort_keys=False, allow_unicode=True))
        except OSError as error:
            raise self._unwritten(error) from None

    def _unwritten(self, error: OSError) -> WorkFailed:
        return WorkFailed(f"{self.path} cannot be written ({error.strerror}).")
