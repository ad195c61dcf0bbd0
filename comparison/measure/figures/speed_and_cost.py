"""What an answer takes: time, tokens, money; and after how many answers training is repaid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from comparison import intervals
from comparison.measure.figures import rows
from comparison.measure.figures.answers import Answers, Of, Place, Value, about
from comparison.measure.folder import Record
from comparison.measure.plan import Slot
from comparison.measure.results import Adapting, BreakEven, Row


def speed(answers: Answers) -> Iterator[Row]:
    """Of answers with nothing beside them."""

    def told(field: str) -> Of:
        def of(slot: str, place: Place) -> Value:
            record = answers.find("alone", place, slot)
            if record is None or record.receipt is None:
                return None
            if field == "ttft_s" and record.receipt.get("steps"):
                return record.first_s  # the receipt's is that of the last step, after the others
            return record.receipt.get(field)

        return of

    places, slots = answers.main, answers.slots
    yield rows.over(
        places, slots, told("ttft_s"), "speed/first-token", "time to the first token", "seconds", "less"
    )
    yield rows.over(
        places,
        slots,
        told("tokens_per_s"),
        "speed/tokens-per-second",
        "tokens a second after it",
        "tokens/s",
        "more",
    )
    yield rows.over(
        places, slots, answers.seconds, "speed/answer", "time of the whole answer", "seconds", "less"
    )


def cost(answers: Answers) -> Iterator[Row]:
    """Tokens of all answers, and the machine's seconds of those that were timed."""

    def prompt(slot: str, place: Place) -> Value:
        return _counted(answers.find("answer", place, slot), "prompt_tokens")

    def completion(slot: str, place: Place) -> Value:
        return _counted(answers.find("answer", place, slot), "completion_tokens")

    def thousand(slot: str, place: Place) -> Value:
        each = answers.money(slot, place)
        return None if each is None else 1000 * each

    places, slots = answers.main, answers.slots
    yield rows.over(places, slots, prompt, "cost/prompt-tokens", "tokens of the prompt", "tokens", "less")
    yield rows.over(places, slots, completion, "cost/answer-tokens", "tokens of the answer", "tokens", "less")
    yield rows.over(
        places,
        slots,
        answers.seconds,
        "cost/machine",
        "the machine's seconds an answer, asked alone",
        "seconds",
        "less",
    )
    if answers.plan.prices.given:
        title = "money for a thousand answers"
        yield rows.over(places, slots, thousand, "cost/money", title, "money", "less")


def adapting(answers: Answers) -> dict[str, Adapting]:
    """How soon a change shows, by slot."""
    found = {}
    first = answers.main[0]
    for slot in answers.plan.slots:
        record = answers.find("adapt", first, slot.id)
        if record is None or record.seconds is None or record.failed is not None:
            continue
        # One beside others may end otherwise for that alone.
        before = answers.find("alone", first, slot.id) or answers.find("answer", first, slot.id)
        made = slot.made
        found[slot.id] = Adapting(
            answer_s=record.seconds,
            checked_s=record.checked_s,
            trained_s=made.seconds if made else None,
            tested_s=made.tested_s if made else None,
            device=made.device if made else None,
            changed=None if made or before is None else before.answer != record.answer,
        )
    return found


def break_even(answers: Answers) -> Iterator[BreakEven]:
    """Each adapter alone against each persona alone, in seconds and in money where there are prices."""
    prices = answers.plan.prices
    for tuned in answers.plan.slots:
        for prompted in answers.plan.slots:
            if tuned.family != "tuned" or prompted.family != "prompted" or tuned.made is None:
                continue
            once = tuned.made.seconds
            yield from _repaid(answers, tuned, prompted, "seconds", once)
            if prices.given:
                paid = prices.of_machine(once) if prices.training is None else prices.training
                if paid is not None:
                    yield from _repaid(answers, tuned, prompted, "money", paid)


def _repaid(
    answers: Answers, tuned: Slot, prompted: Slot, unit: Literal["seconds", "money"], once: float
) -> Iterator[BreakEven]:
    of = answers.money if unit == "money" else answers.seconds
    places = answers.main
    mine, theirs = ([of(slot.id, place) for place in places] for slot in (tuned, prompted))
    tuned_each, prompted_each, same = rows.both(mine, theirs, about(places))
    if not tuned_each:
        return
    # An answer costs so little money that its figure would be rounded away.
    per = 1000 if unit == "money" else 1
    tuned_each, prompted_each = ([per * each for each in its] for its in (tuned_each, prompted_each))
    saving = intervals.difference(prompted_each, tuned_each, same)

    def after(each: float | None) -> float | None:
        return per * once / each if each is not None and each > 0 else None

    yield BreakEven(
        tuned=tuned.id,
        prompted=prompted.id,
        unit=unit,
        once=once,
        per=per,
        tuned_each=rows.figure(tuned_each, same, unit),
        prompted_each=rows.figure(prompted_each, same, unit),
        saving=saving,
        device=tuned.made.device if tuned.made else None,
        at=after(saving.value),
        earliest=after(saving.high),
        latest=after(saving.low),
    )


def _counted(record: Record | None, field: Literal["prompt_tokens", "completion_tokens"]) -> Value:
    if record is None or record.receipt is None:
        return None
    return record.prompt_tokens if field == "prompt_tokens" else record.completion_tokens
