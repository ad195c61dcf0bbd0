"""Which modes there are, what they are called, and how each samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adapters.store import AdapterStore
from backends.contract import BaseFacts
from comparison.modes import DEFAULT_SAMPLING, Catalogue, ModeId
from errors import CounterpointError
from personas.store import PersonaStore
from tests.adapters.folders import add_passport
from tests.comparison.conftest import PLAIN, TELLER


@pytest.mark.parametrize(
    ("text", "adapter", "persona", "family"),
    [
        ("base", None, None, "bare"),
        ("persona:teller", None, "teller", "prompted"),
        ("adapter:one", "one", None, "tuned"),
        ("adapter:one+persona:teller", "one", "teller", "both"),
    ],
)
def test_an_id_is_taken_apart_and_printed_as_it_was(
    text: str, adapter: str | None, persona: str | None, family: str
) -> None:
    mode = ModeId.parse(text)
    assert (mode.adapter, mode.persona, mode.family) == (adapter, persona, family)
    assert str(mode) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bas",
        "Base",
        "teller",
        "persona:",
        "adapter:",
        "persona",
        "+",
        "base+persona:teller",
        "persona:teller+adapter:one",
        "adapter:one+adapter:two",
        "adapter:one+persona:",
        "adapter:one+persona:teller+persona:teller",
        "model:one",
    ],
)
def test_what_is_no_mode_is_refused_with_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(CounterpointError) as raised:
        ModeId.parse(text)
    assert repr(text) in str(raised.value)
    assert "write base, persona:NAME, adapter:NAME or adapter:NAME+persona:NAME" in str(raised.value)


def test_every_way_to_answer_is_listed_with_its_family(catalogue: Catalogue) -> None:
    usable = {mode.id: mode.family for mode in catalogue.list() if mode.usable}
    assert usable == {
        "base": "bare",
        "persona:plain": "prompted",
        "persona:teller": "prompted",
        "adapter:one": "tuned",
        "adapter:two": "tuned",
        "adapter:one+persona:plain": "both",
        "adapter:one+persona:teller": "both",
        "adapter:two+persona:plain": "both",
        "adapter:two+persona:teller": "both",
    }
    assert all(str(ModeId.parse(mode.id)) == mode.id for mode in catalogue.list())
    labels = {mode.id: mode.label for mode in catalogue.list()}
    assert labels["persona:teller"] == "The teller"
    assert labels["adapter:one+persona:teller"] == "one + The teller"


def test_two_of_one_title_are_told_apart_by_their_names(catalogue: Catalogue, tmp_path: Path) -> None:
    personas = tmp_path / "personas"
    personas.mkdir()
    for name in ("teller", "narrator"):
        (personas / f"{name}.yaml").write_text(TELLER.replace("name: teller", f"name: {name}"))
    (personas / "plain.yaml").write_text(PLAIN)
    modes = Catalogue(PersonaStore(personas, tmp_path), catalogue.adapters).list()
    labels = {mode.id: mode.label for mode in modes}
    assert labels["persona:teller"] == "The teller (teller)"
    assert labels["adapter:one+persona:narrator"] == "one + The teller (narrator)"
    assert labels["persona:plain"] == "Plain"


def test_what_cannot_be_used_is_listed_with_its_reason(catalogue: Catalogue) -> None:
    unusable = {mode.id: mode.note or "" for mode in catalogue.list() if not mode.usable}
    assert "dora" in unusable["adapter:dora"].lower()
    assert "role" in unusable["persona:broken"]
    assert "dora" in unusable["adapter:dora+persona:teller"].lower()
    assert "role" in unusable["adapter:one+persona:broken"]
    assert all(unusable.values())


def test_without_a_base_no_adapter_is_listed_and_the_rest_is(tmp_path: Path) -> None:
    def no_base() -> BaseFacts:
        raise CounterpointError("The base model is still being fetched.")

    (tmp_path / "personas").mkdir()
    (tmp_path / "personas" / "teller.yaml").write_text(TELLER)
    store = AdapterStore(tmp_path / "adapters", tmp_path, no_base)
    catalogue = Catalogue(PersonaStore(tmp_path / "personas", tmp_path / "data"), store)
    assert [mode.id for mode in catalogue.list()] == ["base", "persona:teller"]


def test_a_persona_that_is_not_there_is_refused_with_those_that_are(catalogue: Catalogue) -> None:
    with pytest.raises(CounterpointError, match=r"no persona nobody.*plain.*teller"):
        catalogue.persona(ModeId(persona="nobody"))
    assert catalogue.persona(ModeId(adapter="one")) is None


def test_the_persona_says_how_to_sample_before_the_adapter_and_the_adapter_before_the_default(
    facts: BaseFacts, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_adapters["one"], tmp_path / "adapters" / "one"))
    add_passport(folder, facts)
    passport = json.loads((folder / "passport.json").read_text())
    passport["sampling"] = {
        "temperature": 0.7,
        "top_p": 0.6,
        "repetition_penalty": 1.3,
        "max_tokens": 33,
    }
    (folder / "passport.json").write_text(json.dumps(passport))
    (tmp_path / "personas").mkdir()
    (tmp_path / "personas" / "teller.yaml").write_text(TELLER)
    (tmp_path / "personas" / "plain.yaml").write_text(PLAIN)
    catalogue = Catalogue(
        PersonaStore(tmp_path / "personas", tmp_path / "data"),
        AdapterStore(tmp_path / "adapters", tmp_path / "data", lambda: facts),
    )

    def sampling(text: str) -> tuple[float, float, float, int]:
        mode = ModeId.parse(text)
        found = catalogue.sampling(mode, catalogue.persona(mode))
        return found.temperature, found.top_p, found.repetition_penalty, found.max_tokens

    default = DEFAULT_SAMPLING
    assert sampling("base") == (
        default.temperature,
        default.top_p,
        default.repetition_penalty,
        default.max_tokens,
    )
    assert sampling("persona:plain") == sampling("base")
    assert sampling("persona:teller") == (0.0, default.top_p, default.repetition_penalty, 9)
    assert sampling("adapter:one") == (0.7, 0.6, 1.3, 33)
    assert sampling("adapter:one+persona:plain") == (0.7, 0.6, 1.3, 33)
    assert sampling("adapter:one+persona:teller") == (0.0, 0.6, 1.3, 9)


def test_the_sampling_of_an_unknown_adapter_is_refused_with_those_that_are_there(
    catalogue: Catalogue,
) -> None:
    with pytest.raises(CounterpointError, match=r"no adapter .*nothing.*one, two"):
        catalogue.sampling(ModeId(adapter="nothing"), None)
