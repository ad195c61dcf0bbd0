"""What the Measure tab shows of measurements; the whole way is a browser test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gradio as gr
import pytest

from backends.contract import Event, Request, Status
from comparison.measure.runner import Progress
from comparison.measure.runs import Measurement
from errors import CounterpointError
from tests.comparison.measure import made
from tests.comparison.measure.conftest import suite
from tests.ui.measuring import MODES, begin, says_fox, through
from tests.ui.scripted import ScriptedBackend
from ui import measure_told
from ui.measure import NEW, Measure
from ui.page import status_html
from ui.parts import Parts


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(says_fox)


@pytest.fixture
def parts(measuring_parts: Callable[[ScriptedBackend], Parts], backend: ScriptedBackend) -> Parts:
    return measuring_parts(backend)


def test_a_measurement_is_the_same_on_every_page_and_ends_with_its_figures(
    tab: Measure, parts: Parts, own: str
) -> None:
    shown = begin(tab, own)
    assert shown[tab.list].value == "foxes-1"
    assert not shown[tab.form].visible
    through(parts)
    with gr.Blocks(analytics_enabled=False):
        other = Measure(parts)
    shown = other.come("foxes-1", "support", None, MODES, [], "", False)
    assert shown[other.list].value == "foxes-1"
    assert "**complete** · `foxes-1`" in shown[other.about]
    assert not shown[other.stop].visible
    assert not shown[other.resume].visible
    assert shown[other.export].visible
    assert shown[other.delete].visible
    assert not shown[other.timer].active
    page = other._figures("foxes-1", None)
    assert "Foxes" in page[other.report]
    again = other._figures("foxes-1", page[other.shown])
    assert other.report not in again, "nothing is sent twice"


def test_while_one_goes_on_a_page_that_is_opened_shows_it_and_a_second_is_refused(
    tab: Measure, parts: Parts, own: str, backend: ScriptedBackend
) -> None:
    reached, opened = threading.Event(), threading.Event()

    def slow(requests: Sequence[Request]) -> Iterator[Event]:
        reached.set()
        assert opened.wait(60)
        yield from says_fox(requests)

    backend._script = slow
    begin(tab, own)
    assert reached.wait(60)
    with pytest.raises(CounterpointError, match="foxes-1 is being measured: wait for it, or stop it"):
        begin(tab, own)
    shown = tab.come(NEW, "support", None, MODES, [], "", False)
    assert shown[tab.list].value == "foxes-1"
    assert "**measuring**" in shown[tab.about]
    assert "Close this page if you like: it goes on. Answers elsewhere are slower" in shown[tab.about]
    assert shown[tab.timer].active
    assert shown[tab.stop].visible
    assert not shown[tab.delete].visible
    assert "Figures come once the timing is over" in tab._figures("foxes-1", None)[tab.report]
    # Nothing new: nothing is sent.
    assert tab.bar not in tab._tick("foxes-1", shown[tab.known])
    opened.set()
    through(parts)
    ended = tab._tick("foxes-1", shown[tab.known])
    assert "**complete**" in ended[tab.about]
    assert not ended[tab.timer].active


def test_what_other_pages_change_is_caught_up_with_and_mostly_nothing_is(
    tab: Measure, parts: Parts, tmp_path: Path
) -> None:
    for number in (1, 2):
        made.folder(tmp_path / "measurements" / f"old-{number}", made.plan([suite()], "base"))
    told = tab.refresh("old-1")[tab.told]
    assert tab.catch_up("old-1", told) == {}
    parts.measurements.delete("old-2")
    listed = tab.catch_up("old-1", told)
    assert [name for _, name in listed[tab.list].choices] == [NEW, "old-1"]
    assert tab.form not in listed, "what is looked at stays"
    parts.measurements.delete("old-1")
    gone = tab.catch_up("old-1", told)
    assert gone[tab.form].visible
    assert gone[tab.list].value == NEW


def test_one_that_failed_says_why_and_can_be_gone_on_with_or_deleted(
    tab: Measure, parts: Parts, own: str, backend: ScriptedBackend
) -> None:
    def dies(requests: Sequence[Request]) -> Iterator[Event]:
        if len(backend.asked) > 6:
            raise CounterpointError("The engine <b>died</b>: ask again.")
        yield from says_fox(requests)

    backend._script = dies
    begin(tab, own)
    through(parts)
    shown = tab._select("foxes-1")
    assert "died\\<\\/b\\>\\: ask again" in shown[tab.about]
    assert "answers are kept: Go on asks the others" in shown[tab.about]
    assert shown[tab.resume].visible
    backend._script = says_fox
    tab._resume("foxes-1")
    through(parts)
    assert "**complete**" in tab._select("foxes-1")[tab.about]
    assert len(backend.asked) < 60
    assert tab._delete("foxes-1")[tab.list].value == NEW
    assert parts.measurements.list() == []


def test_a_broken_one_says_so_beside_the_others(tab: Measure, tmp_path: Path) -> None:
    made.folder(tmp_path / "measurements" / "old-1", made.plan([suite()], "base"))
    (tmp_path / "measurements" / "odd-1").mkdir()
    shown = tab.refresh("odd-1")
    assert [name for _, name in shown[tab.list].choices] == [NEW, "old-1", "odd-1"]
    assert "holds no measurement" in shown[tab.about]
    assert not shown[tab.resume].visible
    assert shown[tab.delete].visible
    (tmp_path / "measurements" / "old-1" / "answers.jsonl").write_text("{}\n")
    assert "the line is broken" in tab._figures("old-1", None)[tab.report]


def test_its_files_are_made_when_they_are_asked_for_and_two_are_compared(
    tab: Measure, tmp_path: Path
) -> None:
    for number in (1, 2):
        made.folder(tmp_path / "measurements" / f"old-{number}", made.plan([suite()], "base", "persona:p"))
    shown = tab._select("old-1")
    assert shown[tab.against].visible
    assert [name for _, name in shown[tab.against].choices] == [NEW, "old-2"]
    buttons = tab._export("old-1")
    assert all(button.visible for button in buttons)
    names = [
        Path(str(button.value["path"] if isinstance(button.value, dict) else button.value)).name
        for button in buttons
    ]
    assert names == ["report.html", "report.json", "figures.csv", "answers.csv"]
    assert "persona:p" in tab._compare("old-1", "old-2")
    assert tab._compare("old-1", NEW) == ""


def running(progress: Progress | None, preparing: str = "") -> Measurement:
    return Measurement(
        "foxes-1", Path(), "running", "The <fox>", total=40, progress=progress, preparing=preparing, here=True
    )


@pytest.mark.parametrize(
    ("progress", "told"),
    [
        (Progress("alone", 4, 40, 121.0), "2.0 min left · timing answers one by one · 4 of 40"),
        (Progress("answers", 10, 40, 31.0), "30 s left · asking, 24 at once · 10 of 40"),
        (Progress("grading", 3, 30, None), "<p>grading · 3 of 30</p>"),
    ],
)
def test_the_bar_says_what_is_done_how_far_it_is_and_how_long_it_takes(progress: Progress, told: str) -> None:
    shown = measure_told.bar(running(progress))
    assert told in shown
    assert f'value="{100 * progress.done / progress.total:.1f}"' in shown


def test_before_the_first_answer_it_says_what_it_prepares() -> None:
    assert measure_told.bar(running(None)) == "<p>Getting ready …</p>"
    assert "Fetching &lt;it&gt;" in measure_told.bar(running(None, "Fetching <it>"))


def test_a_training_beside_it_is_told_since_times_are_spoilt() -> None:
    assert "zoo is being trained beside it" in measure_told.about(running(None), "zoo")
    assert "trained" not in measure_told.about(running(None))


def test_the_header_says_that_a_measurement_makes_answers_slower() -> None:
    shown = status_html(Status("ready", "base"), None, "foxes-1")
    assert "measuring foxes-1: answers are slower" in shown
