from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from backends.contract import Event, Failed, Queued, Request
from comparison.live import Pane
from errors import CounterpointError
from personas.schema import parse_persona
from tests.ui.scripted import ScriptedBackend, delta, done
from ui import markup, transcript
from ui.parts import Parts
from ui.streaming import REPAINT_S, REPAINT_SHARE, Abandoned, Asked, answers
from ui.transcript import PaneState

PartsWith = Callable[[ScriptedBackend], Parts]


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(count: int) -> list[Asked]:
    return [Asked(slot, PaneState(), Pane("base"), "Bare", "bare") for slot in range(count)]


def test_panes_of_one_decode_step_are_painted_together(parts_with: PartsWith) -> None:
    clock = Clock()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for step in range(3):
            clock.now += REPAINT_S
            for request in requests:
                yield delta(request, f"{step} ", step + 1)
        for request in requests:
            yield done(request)

    parts = parts_with(ScriptedBackend(script))
    paints = list(answers(parts.comparison, "Hello?", asked(3), clock=clock))
    assert [sorted(paint) for paint in paints[1:4]] == [[0, 1, 2]] * 3
    assert paints[-1][2].turns[-1].answer == "0 1 2 "
    assert not paints[-1][2].busy


def test_at_most_one_repaint_in_each_interval(parts_with: PartsWith) -> None:
    clock = Clock()
    steps = 200

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for step in range(steps):
            clock.now += REPAINT_S / 10
            for request in requests:
                yield delta(request, "x", step + 1)
        for request in requests:
            yield done(request)

    parts = parts_with(ScriptedBackend(script))
    paints = list(answers(parts.comparison, "Hello?", asked(2), clock=clock))
    # The first paint shows the question, the last two the ends.
    assert steps / 10 - 1 <= len(paints) <= steps / 10 + 4
    final = {slot: state for paint in paints for slot, state in paint.items()}
    assert [state.turns[-1].answer for state in final.values()] == ["x" * steps] * 2


def test_a_pane_that_has_ended_is_not_painted_again(parts_with: PartsWith) -> None:
    clock = Clock()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        first, second = requests
        clock.now += 1
        yield delta(first, "short")
        clock.now += 1
        yield done(first)
        for step in range(3):
            clock.now += 1
            yield delta(second, "long", step + 1)
        yield done(second)

    parts = parts_with(ScriptedBackend(script))
    paints = list(answers(parts.comparison, "Hello?", asked(2), clock=clock))
    ended = next(number for number, paint in enumerate(paints) if 0 in paint and not paint[0].busy)
    assert all(0 not in paint for paint in paints[ended + 1 :])


def test_closing_the_repaints_closes_the_generation(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        while True:
            yield delta(requests[0], "on ")

    backend = ScriptedBackend(script)
    stream = answers(parts_with(backend).comparison, "Hello?", asked(1))
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert backend.closed


def test_one_panes_failure_is_its_own_notice(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield Failed(requests[0].id, "The prompt is too long: shorten it.")
        yield delta(requests[1], "Fine.")
        yield done(requests[1])

    final: dict[int, PaneState] = {}
    for paint in answers(parts_with(ScriptedBackend(script)).comparison, "Hello?", asked(2)):
        final |= paint
    assert final[0].turns[-1].state == "failed"
    assert final[0].turns[-1].notice == "The prompt is too long: shorten it."
    assert final[1].turns[-1].answer == "Fine."


def test_a_refusal_of_the_whole_question_is_told_in_every_pane(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        raise CounterpointError("The queue is full: ask again in a moment.")
        yield

    final: dict[int, PaneState] = {}
    for paint in answers(parts_with(ScriptedBackend(script)).comparison, "Hello?", asked(2)):
        final |= paint
    assert {state.turns[-1].notice for state in final.values()} == {
        "The queue is full: ask again in a moment."
    }
    assert {state.turns[-1].question for state in final.values()} == {"Hello?"}


def test_a_pane_without_an_end_is_told_as_failed(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "half an ans")

    final: dict[int, PaneState] = {}
    for paint in answers(parts_with(ScriptedBackend(script)).comparison, "Hello?", asked(1)):
        final |= paint
    assert final[0].turns[-1].state == "failed"
    assert final[0].turns[-1].answer == "half an ans"


def test_a_place_in_the_queue_is_shown_until_the_answer_comes(parts_with: PartsWith) -> None:
    clock = Clock()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        clock.now += 1
        yield Queued(requests[0].id, 3)
        clock.now += 1
        yield delta(requests[0], "Here.")
        yield done(requests[0])

    paints = list(answers(parts_with(ScriptedBackend(script)).comparison, "Hello?", asked(1), clock=clock))
    notices = [paint[0].turns[-1].notice for paint in paints]
    assert "number 3" in notices[1]
    assert notices[-1] == ""


def test_places_in_the_queue_that_are_told_at_one_instant_are_all_painted(parts_with: PartsWith) -> None:
    shown: dict[int, PaneState] = {}
    before_the_next: list[str] = []

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for place, request in enumerate(requests, start=1):
            yield Queued(request.id, place)
        before_the_next.extend(shown[slot].turns[-1].notice for slot in range(len(requests)))
        for request in requests:
            yield done(request)

    parts = parts_with(ScriptedBackend(script))
    for paint in answers(parts.comparison, "Hello?", asked(4), clock=Clock()):
        shown |= paint
    assert [f"number {place}" in notice for place, notice in enumerate(before_the_next, start=1)] == [
        True
    ] * 4


def test_a_page_that_takes_long_to_repaint_is_repainted_less_often(parts_with: PartsWith) -> None:
    clock = Clock()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for step in range(100):
            clock.now += REPAINT_S
            yield delta(requests[0], "x", step + 1)
        yield done(requests[0])

    parts = parts_with(ScriptedBackend(script))
    paints, taken = [], 0.02
    for paint in answers(parts.comparison, "Hello?", asked(1), clock=clock):
        paints.append(paint)
        clock.now += taken
    assert paints[-1][0].turns[-1].answer == "x" * 100
    assert len(paints) * taken <= 1.3 * REPAINT_SHARE * clock.now


def test_an_error_that_nobody_foresaw_ends_the_panes_too(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "half")
        raise OSError("the pipe is gone")

    final: dict[int, PaneState] = {}
    for paint in answers(parts_with(ScriptedBackend(script)).comparison, "Hello?", asked(2)):
        final |= paint
    assert [state.turns[-1].state for state in final.values()] == ["failed", "failed"]


def test_what_comes_for_an_abandoned_pane_is_not_painted(parts_with: PartsWith) -> None:
    abandoned = Abandoned()
    shown: dict[int, PaneState] = {}

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for request in requests:
            yield delta(request, "before ")
        abandoned.add(shown[0])
        for request in requests:
            yield delta(request, "after", 2)
            yield done(request)

    parts = parts_with(ScriptedBackend(script))
    for paint in answers(parts.comparison, "Hello?", asked(2), abandoned=abandoned, clock=Clock()):
        shown |= paint
    assert "after" not in shown[0].turns[-1].answer
    assert shown[1].turns[-1].answer == "before after"
    assert abandoned.without(shown[0]) == PaneState(), "however the last paint came in"
    assert abandoned.without(shown[1]) is shown[1]


def stepped(slot: int) -> Asked:
    persona = parse_persona(
        "name: meeting-notes\ntitle: T\ndescription: D\nrole: R\ninstructions: [I]\nsteps:\n"
        "  - {name: outline, prompt: 'Outline {{question}}'}\n  - {name: polish, prompt: 'Polish {{outline}}'}\n",
        "p.yaml",
    )
    return Asked(slot, PaneState(), Pane("persona:meeting-notes", persona=persona), "Steps", "prompted")


def test_each_step_is_shown_while_it_works_and_kept_under_the_answer(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for request in requests:
            yield delta(request, request.messages[-1]["content"] + "!")
            yield done(request)

    parts = parts_with(ScriptedBackend(script))
    paints = [
        paint[1].turns[-1]
        for paint in answers(parts.comparison, "Why?", [*asked(1), stepped(1)])
        if 1 in paint
    ]
    shown = [markup.answer(turn).split("\n")[0] for turn in paints if turn.state == "running"]
    assert "*Step 1 of 2: outline*" in shown
    assert "*Step 2 of 2: polish*" in shown
    first = next(turn for turn in paints if turn.step and turn.step.number == 2)
    assert first.answer == "", "what the step before wrote makes room"
    last = paints[-1]
    assert (last.state, last.answer) == ("done", "Polish Outline Why?!!")
    assert [step["answer"] for step in last.steps] == ["Outline Why?!"]
    assert last.speed.endswith("2 steps, 6 tokens in all")


def test_a_later_step_that_fails_leaves_what_the_earlier_ones_wrote(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        if requests[0].id.endswith("/2"):
            yield Failed(requests[0].id, "The prompt is too long: shorten it.")
        else:
            yield delta(requests[0], "An outline.")
            yield done(requests[0])

    final: dict[int, PaneState] = {}
    for paint in answers(parts_with(ScriptedBackend(script)).comparison, "Why?", [stepped(0)]):
        final |= paint
    turn = final[0].turns[-1]
    assert turn.state == "failed"
    assert turn.notice == "Step polish (2 of 2): The prompt is too long: shorten it."
    assert [step["answer"] for step in turn.steps] == ["An outline."]


def test_stopped_in_a_step_it_says_that_this_is_no_answer(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "Half an out")
        yield done(requests[0], "cancelled")

    final: dict[int, PaneState] = {}
    for paint in answers(parts_with(ScriptedBackend(script)).comparison, "Why?", [stepped(0)]):
        final |= paint
    turn = final[0].turns[-1]
    assert (turn.state, turn.answer) == ("stopped", "Half an out")
    assert turn.notice.startswith("Stopped in step 1 of 2")
    assert transcript.history(final[0]) == ()


def test_while_the_base_loads_a_first_step_says_so_too(parts_with: PartsWith) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for request in requests:
            yield delta(request, "So.")
            yield done(request)

    parts = parts_with(ScriptedBackend(script))
    paints = list(answers(parts.comparison, "Why?", [stepped(0)], waiting_for="The base is loading."))
    assert [paint[0].turns[-1].notice for paint in paints[:2]] == ["The base is loading."] * 2
