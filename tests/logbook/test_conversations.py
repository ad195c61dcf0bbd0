"""Conversations: kept turn by turn, found again, and never overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import processes
from errors import CounterpointError
from logbook.conversations import Asked, Begun, Conversations, End, Turn
from logbook.database import Database


@pytest.fixture
def kept(tmp_path: Path) -> Conversations:
    return Conversations(Database(tmp_path))


def asked(question: str = "why?", pane: int = 0, parent: str | None = None, head: str | None = None) -> Asked:
    return Asked(pane, question, "base", "Bare", "bare", parent=parent, head=head or parent)


def talk(
    kept: Conversations, *questions: str, conversation: str | None = None, parent: str | None = None
) -> Begun:
    """Asks and answers one after the other in one pane; the last turn as it was begun."""
    begun = None
    for question in questions:
        begun = kept.begin("chat", [asked(question, parent=parent)], conversation)
        kept.end(begun.turns[0], End("done", f"so: {question}"))
        conversation, parent = begun.conversation, begun.turns[0]
    assert begun is not None
    return begun


def said(path: tuple[Turn, ...]) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for turn in path]


def test_a_turn_is_kept_whole_from_its_question_to_its_end(kept: Conversations, tmp_path: Path) -> None:
    begun = kept.begin("compare", [asked("why — “so”?\n", 0), asked("why — “so”?\n", 3)])
    end = End(
        "done",
        "because \u2028 of\x00 it 🦊",
        "cut off",
        True,
        {"seed": 7, "sampling": {"stop": ["ü"]}},
        ({"name": "outline", "answer": "a"},),
        ((0.2, 3), (0.4, 9)),
    )
    kept.end(begun.turns[1], end)
    panes = Conversations(Database(tmp_path)).panes(begun.conversation)
    assert list(panes) == [0, 3]
    [running], [done] = panes[0], panes[3]
    assert (running.state, running.question, running.ended_at) == ("running", "why — “so”?\n", None)
    assert (done.answer, done.notice, done.cut_off) == (end.answer, end.notice, True)
    assert (done.receipt, done.steps, done.timing) == (end.receipt, end.steps, end.timing)
    assert running.run == done.run
    assert done.ended_at is not None
    assert done.asked_at <= done.ended_at


def test_a_conversation_is_called_by_its_first_question_and_the_last_gone_on_with_is_first(
    kept: Conversations,
) -> None:
    one = talk(kept, "first\n  of   all? " + "x" * 200)
    two = talk(kept, "second?")
    assert [each.title[:14] for each in kept.list()] == ["second?", "first of all? "]
    assert len(kept.list()[1].title) == 80
    talk(kept, "again?", conversation=one.conversation, parent=one.turns[0])
    assert [each.id for each in kept.list()] == [one.conversation, two.conversation]
    assert [each.turns for each in kept.list()] == [2, 1]
    kept.pin(two.conversation, True)
    assert [each.id for each in kept.list()] == [two.conversation, one.conversation]


def test_an_edited_question_is_another_branch_and_both_can_be_gone_back_to(kept: Conversations) -> None:
    last = talk(kept, "one?", "two?", "three?")
    one, two, three = kept.panes(last.conversation)[0]
    edited = kept.begin("chat", [asked("two, but short?", parent=one.id, head=three.id)], last.conversation)
    assert not edited.elsewhere
    kept.end(edited.turns[0], End("done", "short"))
    path = kept.panes(last.conversation)[0]
    assert said(path) == [("one?", "so: one?"), ("two, but short?", "short")]
    assert path[1].branches == ((two.id, "two?"), (path[1].id, "two, but short?"))
    kept.go_to(last.conversation, two.id)
    assert [turn.id for turn in kept.panes(last.conversation)[0]] == [one.id, two.id, three.id]
    kept.go_to(last.conversation, edited.turns[0])
    assert said(kept.panes(last.conversation)[0])[-1] == ("two, but short?", "short")


def test_of_two_pages_on_one_conversation_the_later_one_is_told_and_neither_loses_anything(
    kept: Conversations,
) -> None:
    begun = talk(kept, "one?")
    first = kept.begin("chat", [asked("here?", parent=begun.turns[0])], begun.conversation)
    later = kept.begin("chat", [asked("there?", parent=begun.turns[0])], begun.conversation)
    assert (first.elsewhere, later.elsewhere) == (False, True)
    for one, answer in ((first, "here"), (later, "there")):
        kept.end(one.turns[0], End("done", answer))
    assert said(kept.panes(begun.conversation)[0])[-1] == ("there?", "there")
    kept.go_to(begun.conversation, first.turns[0])
    assert said(kept.panes(begun.conversation)[0])[-1] == ("here?", "here")


def test_what_was_under_way_when_its_program_ended_is_told_as_lost_and_nothing_else_is(
    kept: Conversations, tmp_path: Path
) -> None:
    program = f"""
import sys
from pathlib import Path
from logbook.conversations import Asked, Conversations, End
from logbook.database import Database
kept = Conversations(Database(Path({str(tmp_path)!r})))
asked = [Asked(pane, "why?", "base", "Bare", "bare") for pane in (0, 1)]
begun = kept.begin("compare", asked)
kept.end(begun.turns[0], End("done", "so"))
print(begun.conversation, flush=True)
sys.stdin.read()
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        conversation = other.stdout.readline().strip()
        mine = kept.begin("chat", [asked()])
        assert kept.lose() == 0, "both go on"
        other.kill()
    assert kept.lose() == 1
    assert kept.lose() == 0
    panes = kept.panes(conversation)
    assert [panes[pane][0].state for pane in (0, 1)] == ["done", "lost"]
    assert kept.panes(mine.conversation)[0][0].state == "running"


def test_words_are_found_in_questions_answers_and_titles_as_they_are_typed(kept: Conversations) -> None:
    fox = talk(kept, "Where does the FÔX sleep?", "And the bear?")
    bridge = talk(kept, "When does the bridge open?")
    kept.rename(bridge.conversation, "Harbour questions")

    def ids(search: str) -> list[str]:
        return [each.id for each in kept.list(search)]

    assert ids("fo") == ids("fox") == ids("sleep FOX") == ids("bear") == [fox.conversation]
    assert ids("harb") == ids("opens") + ids("bridge op") == [bridge.conversation]
    assert set(ids("does the")) == {fox.conversation, bridge.conversation}
    assert ids("wolf") == ids("?!") == ids('"') == []
    assert ids("") == ids("  ") == [bridge.conversation, fox.conversation]
    begin, end = kept.marks
    assert f"the {begin}bear{end}" in kept.list("bear")[0].found
    talk(kept, "no words of SQL: NEAR( fox* OR ^x -y ' \" %")
    assert len(ids("near( fox* or ^x -y ' \" %")) == 1


def test_tags_narrow_the_list_and_are_offered_again(kept: Conversations) -> None:
    one, two = talk(kept, "one?"), talk(kept, "two?")
    kept.tag(one.conversation, ["demo", "  for   Ann ", ""])
    kept.tag(two.conversation, ["demo"])
    assert kept.tags() == ["demo", "for Ann"]
    assert [each.id for each in kept.list(tag="for Ann")] == [one.conversation]
    assert len(kept.list(tag="demo")) == 2
    assert len(kept.list("one", tag="demo")) == 1
    kept.tag(one.conversation, [])
    assert kept.tags() == ["demo"]
    with pytest.raises(CounterpointError, match="at most 40 characters: shorten it"):
        kept.tag(one.conversation, ["x" * 41])


def test_what_is_deleted_is_in_no_list_and_comes_back_whole(kept: Conversations) -> None:
    begun = talk(kept, "one?", "two?")
    kept.tag(begun.conversation, ["demo"])
    before = kept.panes(begun.conversation)
    kept.delete(begun.conversation)
    assert kept.list() == kept.list("one") == []
    assert kept.tags() == []
    kept.restore(begun.conversation)
    assert [each.id for each in kept.list("one", tag="demo")] == [begun.conversation]
    assert kept.panes(begun.conversation) == before
    kept.delete(begun.conversation)
    talk(kept, "three?", conversation=begun.conversation, parent=begun.turns[0])
    assert len(kept.list()) == 1, "a page that still shows it goes on with it"


@pytest.mark.parametrize(("title", "told"), [(" \n", "needs a title: type one"), ("x" * 121, "shorten it")])
def test_a_title_that_cannot_be_is_one_line(kept: Conversations, title: str, told: str) -> None:
    begun = talk(kept, "one?")
    with pytest.raises(CounterpointError, match=told):
        kept.rename(begun.conversation, title)
    assert kept.list()[0].title == "one?"


def test_a_conversation_or_branch_that_is_not_there_is_one_line(kept: Conversations) -> None:
    begun = talk(kept, "one?")
    for call in (
        lambda: kept.rename("gone", "x"),
        lambda: kept.delete("gone"),
        lambda: kept.panes("gone"),
        lambda: kept.go_to("gone", begun.turns[0]),
        lambda: kept.go_to(begun.conversation, "gone"),
        lambda: kept.end("gone", End("done")),
    ):
        with pytest.raises(CounterpointError, match="not there any more"):
            call()


def test_what_is_asked_in_a_conversation_that_was_removed_begins_a_new_one(kept: Conversations) -> None:
    begun = kept.begin("chat", [asked(parent="gone")], "gone")
    assert begun.conversation != "gone"
    assert not begun.elsewhere
    assert kept.panes(begun.conversation)[0][0].parent is None


def test_nobody_finds_what_another_person_said(kept: Conversations) -> None:
    mine, theirs = (kept.begin("chat", [asked("a fox?")], person=person) for person in ("ann", "bob"))
    kept.tag(theirs.conversation, ["secret"])
    assert [each.id for each in kept.list(person="ann")] == [mine.conversation]
    assert [each.id for each in kept.list("fox", person="bob")] == [theirs.conversation]
    assert kept.list() == kept.list("fox") == []
    assert (kept.tags("ann"), kept.tags("bob")) == ([], ["secret"])


def test_a_turn_never_follows_one_of_another_conversation(kept: Conversations) -> None:
    one, two = talk(kept, "one?"), talk(kept, "two?")
    begun = kept.begin("chat", [asked("three?", parent=one.turns[0])], two.conversation)
    assert said(kept.panes(begun.conversation)[0]) == [("three?", "")]


def test_an_owner_that_says_nonsense_is_no_owner(kept: Conversations, tmp_path: Path) -> None:
    begun = kept.begin("chat", [asked()])
    me = processes.told()
    for owner in (None, "{", "[]", "{}", json.dumps({**me, "created": me["created"] - 100})):
        with Database(tmp_path).writing() as db:
            db.execute("UPDATE turn SET state = 'running', owner = ?", [owner])
        assert kept.lose() == 1, owner
    assert kept.panes(begun.conversation)[0][0].state == "lost"
