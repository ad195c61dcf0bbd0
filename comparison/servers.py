"""The servers that a person has declared: one strict YAML file in the data folder. Keys are never in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

import durable
import strict_yaml
from errors import CounterpointError, WorkFailed

FILE = "servers.yaml"
MAX_SERVERS = 20
LOCAL = "local"
MAIN = "server"
"""The name of a server that is given by its address alone."""
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
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no key: name the environment variable that does as key_env")
        return url.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _is_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
            raise ValueError("must be the name of an environment variable, never the key itself")
        return name


class Declarations(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: tuple[Declared, ...] = Field(default=(), max_length=MAX_SERVERS)

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

    def list(self) -> tuple[Declared, ...]:
        """Raises CounterpointError with every problem of the file, each with its line."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise CounterpointError(f"{self.path} cannot be read ({error}): mend or remove it.") from None
        return strict_yaml.load(text, FILE, Declarations).servers if text.strip() else ()

    def save(self, server: Declared) -> None:
        """Adds a server, or puts it in the place of the one of its name."""
        others = self.list()
        if server.name in {each.name for each in others}:
            kept = tuple(server if each.name == server.name else each for each in others)
        else:
            kept = (*others, server)
        if len(kept) > MAX_SERVERS:
            raise CounterpointError(f"There are {MAX_SERVERS} servers already: remove one first.")
        self._write(kept)

    def remove(self, name: str) -> None:
        """Raises CounterpointError for a name that is not there."""
        servers = self.list()
        kept = tuple(each for each in servers if each.name != name)
        if len(kept) == len(servers):
            known = ", ".join(each.name for each in servers) or "none"
            raise CounterpointError(f"There is no server {name}. There are: {known}.")
        self._write(kept)

    def _write(self, servers: tuple[Declared, ...]) -> None:
        told = [server.model_dump(exclude_defaults=True) for server in servers]
        try:
            durable.write(self.path, yaml.safe_dump({"servers": told}, sort_keys=False, allow_unicode=True))
        except OSError as error:
            raise WorkFailed(f"{self.path} cannot be written ({error.strerror}).") from None
