"""The report: whole, self-contained, and harmless whatever the answers say."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import pytest

from comparison.measure.advice import advise
from comparison.measure.figures.reckon import results
from comparison.measure.folder import Graded, Record, RunFolder, sha256
from comparison.measure.plan import Item, Prices
from comparison.measure.report import answers, files
from comparison.measure.report import page as report_page
from comparison.measure.report.page import STYLE, compare
from comparison.measure.report.table import lines
from comparison.measure.results import Results
from tests.comparison.measure import made
from tests.comparison.measure.conftest import SENSES, suite
from tests.comparison.measure.test_advice import FOUR, GENERAL
from tests.comparison.measure.test_figures import bias_suite, many

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> </pre> & \x1b[31m red"
PERSONA = "You serve customers. " * 400


def prompted(item: Item) -> Record:
    """An answer with a receipt as a real one has it: of prompted modes with a long prompt."""
    begin = PERSONA if item.slot.family in ("prompted", "both") else ""
    prompt = f"<|im_start|>system\n{begin}<|im_end|>\n<|im_start|>user\n{item.case.question}<|im_end|>\n"
    answer = f"{'A changed' if item.kind == 'adapt' else 'An'} answer to {item.case.question}"
    record = made.record(item, answer, seconds=1.0 + item.case.test % 3)
    receipt = {
        **(record.receipt or {}),
        "seed": item.seed,
        "prompt": prompt,
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
    }
    return record.model_copy(update={"receipt": receipt})


def right(item: Item) -> bool:
    return item.slot.family in ("tuned", "both") and item.case.test % 10 != 0


def written(folder: RunFolder) -> tuple[Results, dict[str, str]]:
    found = results(folder, SENSES)
    found = found.model_copy(update={"advice": advise(found)})
    paths = files.write(folder, found)
    assert [path.name for path in paths] == list(files.NAMES)
    return found, {path.name: path.read_text(encoding="utf-8") for path in paths}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Results, dict[str, str]]:
    """As large a run as that of a domain that ships."""
    suites = [many(57, "repeat: {times: 4, questions: 12}\n", wordings=2), suite(GENERAL), bias_suite(24)]
    plan = made.plan(suites, *FOUR, prices=Prices(machine_hour=0.1), alone=12)
    folder = made.folder(tmp_path_factory.mktemp("report") / "run", plan, prompted, right)
    return folder, *written(folder)


def test_a_large_report_is_one_small_file_that_needs_nothing_else(
    large: tuple[RunFolder, Results, dict[str, str]],
) -> None:
    page = large[2][files.HTML]
    assert len(page.encode()) < 3_000_000
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!#)", page)
    assert "url(" not in page
    assert "@import" not in page


def test_every_question_answer_and_receipt_is_in_it(large: tuple[RunFolder, Results, dict[str, str]]) -> None:
    folder, _, texts = large
    page = texts[files.HTML]
    for record in folder.records().values():
        if record.kind == "answer":
            assert record.question in page
            assert record.answer in page
            assert (record.receipt or {})["prompt_sha256"] in page


def test_of_a_run_that_is_too_large_the_page_has_the_questions_that_fit_and_the_json_has_all(
    large: tuple[RunFolder, Results, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found, texts = large
    limit = len(texts[files.HTML].encode()) // 2
    monkeypatch.setattr(report_page, "MAX_BYTES", limit)
    page = report_page.page(found, folder.plan(), folder.records(), folder.grades())
    assert 0.9 * limit < len(page.encode()) <= limit
    questions = sum(len(cases) for cases in folder.plan().cases.values())
    shown = page.count('<details class="cp-m-question')
    assert 0 < shown < questions
    assert (
        f"{questions - shown:,} more questions, with their answers and receipts, are in report.json" in page
    )
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r' id="([^"]+)"', page))


def test_each_figure_leads_to_the_answers_and_receipts_that_it_comes_from(
    large: tuple[RunFolder, Results, dict[str, str]],
) -> None:
    folder, found, texts = large
    page = texts[files.HTML]
    places = re.findall(r' id="([^"]+)"', page)
    assert len(places) == len(set(places))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(places)
    plan = folder.plan()
    for row in found.rows:
        block = page.partition(f'id="{row.key.replace("/", "-")}"')[2].partition('class="cp-m-block"')[0]
        assert row.cases
        for number, name in enumerate(row.cases):
            for place, slot in enumerate(plan.slots):
                led = f'href="#{answers.anchor(name, place)}"' in block
                told = slot.id in row.values and row.values[slot.id][number] is not None
                assert led is told, (row.key, name, slot.id)
    kinds = [record for record in folder.records().values() if record.kind in ("alone", "repeat")]
    assert all(f"seed {record.seed}" in page for record in kinds)


def test_a_prompts_frame_and_the_question_make_the_prompt_again(
    large: tuple[RunFolder, Results, dict[str, str]],
) -> None:
    folder, _, texts = large
    frames = answers.frames(folder.plan(), folder.records())
    assert set(frames) == set(FOUR)
    assert texts[files.HTML].count("You serve customers. You serve customers.") <= 2 * 400
    for record in folder.records().values():
        receipt = record.receipt or {}
        prompt = answers.filled(frames[record.slot], record.question)
        assert hashlib.sha256(prompt.encode()).hexdigest() == receipt["prompt_sha256"]


def test_a_prompt_that_is_not_of_the_frame_is_shown_whole(tmp_path: Path) -> None:
    def other(item: Item) -> Record:
        record = prompted(item)
        return record.model_copy(
            update={"receipt": {**(record.receipt or {}), "prompt": f"otherwise {item.case.id} put"}}
        )

    folder = made.folder(tmp_path / "run", made.plan([many(4)], "base"), other, right)
    assert "otherwise 3.0 put" in written(folder)[1][files.HTML]


def test_what_answers_and_questions_say_is_text_and_nothing_else(tmp_path: Path) -> None:
    def evil(item: Item) -> Record:
        record = made.record(item, EVIL)
        return record.model_copy(update={"receipt": {**(record.receipt or {}), "prompt": EVIL}})

    asked = suite(
        "name: evil\ntitle: '<b>evil</b>'\ntests: [{question: '<i>evil</i>', assert: [{type: equals, value: '<u>'}]}]\n"
    )
    page = written(made.folder(tmp_path / "run", made.plan([asked], *FOUR), evil, right))[1][files.HTML]
    assert not any(tag in page for tag in ("<script>", "<img", "<b>evil", "<i>evil", "\x1b"))
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    "prices",
    [
        Prices(prompt_million=5),
        Prices(machine_hour=0),
        Prices(machine_hour=1, training=0),
        Prices(prompt_million=5, training=0),
    ],
)
@pytest.mark.parametrize("tuned_s", [0.5, 1.0, 2.0])
def test_whatever_the_prices_there_is_a_report(tmp_path: Path, prices: Prices, tuned_s: float) -> None:
    def said(item: Item) -> Record:
        seconds = tuned_s if item.slot.family == "tuned" else 1.0 + item.case.test % 3 / 10
        return made.record(item, seconds=seconds)

    folder = made.folder(tmp_path / "run", made.plan([many(8)], *FOUR, prices=prices), said, right)
    found, texts = written(folder)
    assert len(texts) == len(files.NAMES)
    assert all(one.once or "there is nothing to repay" in texts[files.HTML] for one in found.break_even)


def test_a_suites_own_names_write_no_markup(tmp_path: Path) -> None:
    name = "'\"><img src=x onerror=alert(1)>'"
    asked = suite(
        f"name: evil\ntitle: E\nquestion: 'a {{{{who}}}}?'\ntests: [{{vars: {{}}, "
        f"assert: [{{type: equals, value: x, metric: {name}}}], "
        f"pairs: {{attribute: {name}, var: who, values: [[a, b], [c, d]]}}}}]\n"
    )
    page = written(made.folder(tmp_path / "run", made.plan([asked], *FOUR)))[1][files.HTML]
    assert "<img" not in page


def test_the_figures_as_a_table_are_the_figures(large: tuple[RunFolder, Results, dict[str, str]]) -> None:
    _, found, texts = large
    told = list(csv.DictReader(texts[files.FIGURES].splitlines()))
    assert len(told) == sum(len(row.figures) + len(row.gaps) for row in found.rows)
    for row in found.rows:
        for slot, figure in row.figures.items():
            [line] = [one for one in told if (one["key"], one["mode"], one["less"]) == (row.key, slot, "")]
            assert float(line["value"]) == figure.value
            assert int(line["n"]) == figure.n
    said = list(csv.DictReader(texts[files.ANSWERS].splitlines()))
    assert {one["answer"] for one in said} == {record.answer for record in large[0].records().values()}


def test_a_formula_in_an_answer_is_text_in_a_spreadsheet(tmp_path: Path) -> None:
    folder = made.folder(
        tmp_path / "run",
        made.plan([many(4)], "base"),
        lambda item: made.record(item, "=1+1"),
        lambda item: True,
    )
    said = list(csv.DictReader(written(folder)[1][files.ANSWERS].splitlines()))
    assert {one["answer"] for one in said} == {"'=1+1"}


def test_the_json_holds_all_that_was_found_and_planned(
    large: tuple[RunFolder, Results, dict[str, str]],
) -> None:
    folder, found, texts = large
    told = json.loads(texts[files.JSON])
    assert Results.model_validate_json(json.dumps(told["results"])) == found
    assert type(folder.plan()).model_validate_json(json.dumps(told["plan"])) == folder.plan()
    grades = folder.grades()
    for one, record in zip(told["answers"], folder.records().values(), strict=True):
        grade = one.pop("grade")
        assert Record.model_validate_json(json.dumps(one)) == record
        assert grade == (grades[record.key].model_dump(mode="json") if record.key in grades else None)


@pytest.mark.parametrize(
    ("passes", "borne"),
    [
        (lambda item: item.slot.family == "tuned", "as expected"),
        (lambda item: item.slot.family == "prompted", "not so here"),
        (lambda item: item.case.test % 2 == 0, "no clear difference"),
    ],
)
def test_an_expectation_is_held_against_what_was_measured(tmp_path: Path, passes: object, borne: str) -> None:
    plan = made.plan([many(40)], *FOUR)
    folder = made.folder(tmp_path / "run", plan, prompted, passes)  # type: ignore[arg-type]
    told = {line.aspect: line for line in lines(results(folder, SENSES), plan)}
    assert told["Customisation"].borne == borne
    assert told["Speed"].borne == "as expected"
    assert list(told)[:6] == ["Main idea", "Speed", "Cost", "Customisation", "Consistency", "Best for"]


def test_a_run_that_has_hardly_begun_or_failed_has_a_report_that_says_so(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "run", made.plan([many(4)], *FOUR), prompted, right)
    (folder.path / "grades.jsonl").write_text("")
    answered = (folder.path / "answers.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "answers.jsonl").write_text("".join(answered[:8]))
    assert "This run is not complete" in written(folder)[1][files.HTML]
    (folder.path / "answers.jsonl").write_text("")
    assert "This run is not complete" in written(folder)[1][files.HTML]

    def failing(item: Item) -> Record:
        return made.record(item).model_copy(
            update={"failed": "the prompt is too long", "receipt": None, "answer": ""}
        )

    failed = made.folder(tmp_path / "failed", made.plan([many(4)], "base"), failing, lambda item: False)
    page = written(failed)[1][files.HTML]
    assert "could not be given: counted as wrong" in page
    assert "the prompt is too long" in page


def test_an_answer_that_was_changed_by_hand_has_its_grade_no_longer(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "run", made.plan([many(4)], "base"))
    record = next(one for one in folder.records().values() if one.kind == "answer")
    graded = Graded(
        key=record.key, of=sha256(record.answer), passed=True, score=1.0, parts=((True, 1.0, ""),)
    )
    folder.graded(graded)
    assert folder.grades()[record.key] == graded
    path = folder.path / "answers.jsonl"
    path.write_text(path.read_text().replace('"an answer"', '"a better answer"'))
    page = written(folder)[1][files.HTML]
    assert "1 answer could not be graded: the answer was changed after it was graded" in page


def test_every_class_that_the_report_uses_has_a_look(
    large: tuple[RunFolder, Results, dict[str, str]],
) -> None:
    used = set(re.findall(r'class="([^"]+)"', large[2][files.HTML]))
    names = {name for several in used for name in several.split()}
    style = STYLE.read_text(encoding="utf-8")
    plain = {"cp-m-block", "cp-m-none", "cp-m-page", "cp-m-figures", "cp-m-key"}
    assert {name for name in names - plain if f".{name}" not in style} == set()


def test_repeats_at_a_temperature_of_their_own_say_so(tmp_path: Path) -> None:
    plans = [
        made.plan([many(4, f"repeat: {{times: 2{more}}}\n")], "base") for more in (", temperature: 0.7", "")
    ]
    pages = [
        written(made.folder(tmp_path / str(place), plan))[1][files.HTML] for place, plan in enumerate(plans)
    ]
    assert "asked at a temperature of 0.7 here, not at their own" in pages[0]
    assert "at a temperature of" not in pages[1]


def test_two_runs_are_compared_where_they_have_modes_in_common(tmp_path: Path) -> None:
    one = results(
        made.folder(tmp_path / "a", made.plan([many(40)], *FOUR), prompted, lambda item: True), SENSES
    )
    other = results(
        made.folder(tmp_path / "b", made.plan([many(40)], "base"), prompted, lambda item: False), SENSES
    )
    told = compare(one, other)
    assert "100 % (91 to 100, n = 40)</td><td>0 % (0 to 9, n = 40)</td><td>apart</td>" in told
    assert "adapter:a" not in told
    assert "cp-m-warning" not in told
    changed = results(made.folder(tmp_path / "d", made.plan([many(41)], "base"), prompted), SENSES)
    assert "Their suites were changed in between" in compare(one, changed)
    elsewhere = other.model_copy(update={"suite": "other", "machine": "another"})
    assert "They asked different suites" in compare(one, elsewhere)
    assert "They ran on different machines" in compare(one, elsewhere)
    none = results(made.folder(tmp_path / "c", made.plan([many(4)], "persona:other"), prompted), SENSES)
    assert "no mode and no figure in common" in compare(one, none)
