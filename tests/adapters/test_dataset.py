"""Reading datasets: what is wrong is told at once. And the datasets that ship are what they say they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.datasets import build
from adapters.training import dataset
from comparison.checks.check import parse, passes
from errors import CounterpointError

DATASETS = Path(build.__file__).parent
NAMES = ("support", "orders", "gazette")


def line(*turns: tuple[str, str], **more: Any) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in turns], **more})


GOOD = line(("user", "Hi"), ("assistant", "Hello"))


def test_rows_keep_their_checks_and_may_have_further_keys(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    check = {"type": "icontains", "value": "hello"}
    file.write_text(
        GOOD + "\n\n" + line(("user", "Hi"), ("assistant", "Hello"), checks=[check], fact="x") + "\n"
    )
    rows = dataset.read(file)
    assert len(rows) == 2
    assert rows[1].checks == (check,)
    assert rows[1].answer == "Hello"


def test_every_problem_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    bad = [
        GOOD,
        "{not json",
        line(("user", "Hi")),
        line(("assistant", "Hi"), ("user", "Hello")),
        line(("user", "Hi"), ("assistant", "")),
        line(("user", "  "), ("assistant", "Hello")),
        '{"message": []}',
    ]
    file.write_text("\n".join(bad))
    with pytest.raises(CounterpointError) as error:
        dataset.read(file)
    for number in range(2, 8):
        assert f"d.jsonl:{number}: " in str(error.value)
    assert "d.jsonl:1:" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unusual_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text(
        '{"messages": [{"role": "user", "content": "a\u2028b"}, {"role": "assistant", "content": "c"}]}'
    )
    assert dataset.read(file)[0].messages[0].content == "a\u2028b"


def test_an_empty_file_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n")
    with pytest.raises(CounterpointError, match="no row"):
        dataset.read(tmp_path / "d.jsonl")
    with pytest.raises(CounterpointError, match="cannot be read"):
        dataset.read(tmp_path / "missing.jsonl")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_rows_are_many_and_no_heldout_question_is_trained_on(name: str) -> None:
    train = dataset.read(DATASETS / f"{name}.train.jsonl")
    heldout = dataset.read(DATASETS / f"{name}.heldout.jsonl")
    assert len(train) >= 200
    assert len(heldout) >= 60
    dataset.refuse_overlap(train, heldout)
    assert len({row.question[-1]["content"] for row in train + heldout}) == len(train) + len(heldout)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_reference_answer_passes_its_own_checks(name: str) -> None:
    for row in dataset.read(DATASETS / f"{name}.heldout.jsonl"):
        assert row.checks
        assert passes(parse(row.checks, name), row.answer), row.answer


def test_the_support_checks_tell_facts_apart() -> None:
    rows = dataset.read(DATASETS / "support.heldout.jsonl")
    answers = {row.model_extra["group"]: row.answer for row in rows}  # type: ignore[index]
    assert len(answers) >= 40
    for row in rows:
        others = [
            group
            for group, answer in answers.items()
            if answer != row.answer and passes(parse(row.checks, group), answer)
        ]
        assert set(others) <= {"off_topic"}, (row.question, others)


def test_heldout_orders_use_names_towns_and_products_that_training_does_not() -> None:
    pieces = yaml.safe_load((DATASETS / "source" / "orders.yaml").read_text())
    trained = " ".join(
        row.question[0]["content"] for row in dataset.read(DATASETS / "orders.train.jsonl")
    ).lower()
    heldout = pieces["heldout"]
    words = set(re.findall(r"[a-z]+", trained))
    for name in heldout["first_names"] + heldout["last_names"] + heldout["cities"]:
        assert not set(re.findall(r"[a-z]+", name.lower())) & words, name
    for row in dataset.read(DATASETS / "orders.heldout.jsonl"):
        for item in json.loads(row.answer)["items"]:
            assert not re.search(rf"\b{re.escape(item['product'])}\b", trained)


def test_heldout_orders_are_worded_as_no_training_row_is() -> None:
    pieces = yaml.safe_load((DATASETS / "source" / "orders.yaml").read_text())

    def bare(part: str, kind: str) -> set[str]:
        return {re.sub(r"[^a-z{}]+", " ", each.casefold()).strip() for each in pieces[part][kind]} - {""}

    kinds = [kind for kind, pool in pieces["heldout"].items() if isinstance(pool[0], str) and pool]
    wordings = [kind for kind in kinds if not kind.endswith(("names", "cities"))]
    assert len(wordings) == 11
    for kind in wordings:
        assert not bare("heldout", kind) & bare("train", kind), kind
    for part in ("train", "heldout"):
        people = set(pieces[part]["first_names"]) | set(pieces[part]["last_names"])
        assert not people & set(pieces[part]["cities"]), "who could tell them apart?"


def test_the_committed_datasets_are_those_that_build_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").symlink_to(DATASETS / "source")
    monkeypatch.setattr(build, "HERE", tmp_path)
    build.main()
    made = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(made) == 7
    for path in made:
        assert path.read_bytes() == (DATASETS / path.name).read_bytes(), path.name
