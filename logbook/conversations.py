"""Conversations: every question in every pane with what became of it, kept before anybody is told of it.

The turns of a pane are a tree. A question that is edited, or asked again, is another branch; nothing is overwritten, also
not by a second page on the same conversation.
"""

from __future__ import annotations

import builtins
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlite_utils import Database as Connection

import processes
from errors import CounterpointError
from logbook.database import Database

Kind = Literal["compare", "chat"]
State = Literal["running", "done", "stopped", "failed", "lost"]
"""Of a turn. Lost is what was under way when its program ended."""

MAX_TITLE = 120
"""Characters."""
MAX_TAG = 40
_TITLE = 80
"""Characters of its first question that a conversation is called by."""
_HITS = 500
"""Turns that a search looks at, the newest first: enough for a list that anybody reads."""
_MARKS = ("\u2068", "\u2069")
"""Around what was found in a snippet: signs that show nothing where they are shown as they are."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way in one pane. `parent` is the turn that it follows, `head` the last one that who asks knows
    of: another one than the parent where that one's question is edited or asked again."""

    pane: int
    question: str
    mode: str
    label: str
    family: str
    strength: float = 1.0
    parent: str | None = None
    head: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """The turns' ids, in the order asked. `elsewhere` says that the conversation had gone on in another page meanwhile:
    what is asked now is a branch beside that."""

    conversation: str
    turns: tuple[str, ...]
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """What became of a turn. `timing` is how long after the question how many characters of the answer were there:
    (seconds, characters), in order."""

    state: State
    answer: str = ""
    notice: str = ""
    cut_off: bool = False
    receipt: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Mapping[str, Any]] = ()
    timing: Sequence[tuple[float, int]] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as it was kept. `branches` are the turns that follow the same one in its pane, in order, itself among them:
    (id, question)."""

    id: str
    pane: int
    parent: str | None
    run: str
    question: str
    mode: str
    label: str
    family: str
    strength: float
    state: State
    answer: str
    notice: str
    cut_off: bool
    receipt: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    timing: tuple[tuple[float, int], ...]
    asked_at: str
    ended_at: str | None
    branches: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One in a list. `found` is where what was searched for stands, between the signs of `marks`."""

    id: str
    kind: Kind
    title: str
    created_at: str
    changed_at: str
    pinned: bool
    tags: tuple[str, ...]
    turns: int
    found: str = ""


class Conversations:
    """Those of a data folder. Holds nothing: whatever several pages and processes do at once, the file decides."""

    marks = _MARKS

    def __init__(self, database: Database) -> None:
        self._database = database
        self._me = json.dumps(processes.told())

    # --- a turn, from its question to its end

    def begin(
        self, kind: Kind, asked: Sequence[Asked], conversation: str | None = None, person: str = ""
    ) -> Begun:
        """Keeps what is asked, in a new conversation of that person's where none is named; it is on disk when this
        returns. Raises as `Database.writing`."""
        now, run = _now(), _new_id()
        ids = tuple(_new_id() for _ in asked)
        with self._database.writing() as db:
            known = conversation is not None and _is_there(db, conversation)
            named = conversation if known and conversation else _new_id()
            if known:
                # Who goes on with a deleted one wants it back.
                db.execute(
                    "UPDATE conversation SET changed_at = ?, deleted_at = NULL WHERE id = ?", [now, named]
                )
            else:
                title = shortened(asked[0].question, _TITLE)
                new = {"id": named, "kind": kind, "title": title, "created_at": now, "changed_at": now}
                db.table("conversation").insert({**new, "person": person})
            heads = dict(_rows(db, "pane", "number, turn_id", named))
            # A page that knows nothing of a pane has it anew: it may have taken it away and added it again.
            elsewhere = known and any(one.head not in (None, heads.get(one.pane)) for one in asked)
            for turn, one in zip(ids, asked, strict=True):
                parent = one.parent if one.parent and _is_in(db, named, one.parent) else None
                db.table("turn").insert(
                    {
                        "id": turn,
                        "conversation_id": named,
                        "pane": one.pane,
                        "parent_id": parent,
                        "run": run,
                        "question": one.question,
                        "mode": one.mode,
                        "label": one.label,
                        "family": one.family,
                        "strength": one.strength,
                        "state": "running",
                        "asked_at": now,
                        "owner": self._me,
                    }
                )
                _stand_at(db, named, one.pane, turn)
        return Begun(named, ids, elsewhere)

    def end(self, turn: str, end: End) -> None:
        """Keeps what became of a turn; on disk when this returns. Raises as `Database.writing`."""
        told = asdict(end)
        for name in ("receipt", "steps", "timing"):
            told[name] = json.dumps(told[name], ensure_ascii=False)
        with self._database.writing() as db:
            db.table("turn").update(_number(db, turn), {**told, "ended_at": _now(), "owner": None})

    def lose(self) -> int:
        """Marks the turns whose program ended before they did, and says how many they are. Raises as
        `Database.writing`."""
        with self._database.reading() as db:
            running = list(db.execute("SELECT id, owner FROM turn WHERE state = 'running'"))
        gone = [turn for turn, owner in running if not _lives(owner)]
        if gone:
            with self._database.writing() as db:
                for turn in gone:
                    db.execute(
                        "UPDATE turn SET state = 'lost', ended_at = ?, owner = NULL "
                        "WHERE id = ? AND state = 'running'",
                        [_now(), turn],
                    )
        return len(gone)

    # --- looking

    def list(
        self, search: str = "", tag: str | None = None, person: str = "", limit: int = 100
    ) -> builtins.list[Conversation]:
        """That person's, pinned ones first, then those that were last gone on with; of a search those whose questions,
        answers or title have words that begin so. Raises as `Database.reading`."""
        with self._database.reading() as db:
            found = _search(db, search, person)
            if found is not None and not found:
                return []
            where, values = ["deleted_at IS NULL", "person = ?"], [person]
            if found is not None:
                where.append(f"id IN ({', '.join('?' * len(found))})")
                values += list(found)
            if tag is not None:
                where.append("id IN (SELECT conversation_id FROM tag WHERE name = ?)")
                values.append(tag)
            return list(_listed(db, " AND ".join(where), values, found or {}, limit))

    def tags(self, person: str = "") -> builtins.list[str]:
        """All that are in use by that person. Raises as `Database.reading`."""
        with self._database.reading() as db:
            return [
                row[0]
                for row in db.execute(
                    "SELECT DISTINCT name FROM tag JOIN conversation ON id = conversation_id WHERE deleted_at IS NULL "
                    "AND person = ? ORDER BY name",
                    [person],
                )
            ]

    def get(self, conversation: str) -> Conversation:
        """As in a list, deleted or not. Raises CounterpointError for one that is not there, and as `Database.reading`."""
        with self._database.reading() as db:
            _require(db, conversation)
            return next(_listed(db, "id = ?", [conversation], {}, 1))

    def panes(self, conversation: str) -> dict[int, tuple[Turn, ...]]:
        """Of each pane the turns that lead to where it stands, the oldest first. Raises CounterpointError for one that is
        not there, and as `Database.reading`."""
        with self._database.reading() as db:
            _require(db, conversation)
            turns = {
                row["id"]: row
                for row in db.query(
                    "SELECT * FROM turn WHERE conversation_id = ? ORDER BY number", [conversation]
                )
            }
            heads = dict(_rows(db, "pane", "number, turn_id", conversation))
        branches: dict[tuple[int, str | None], builtins.list[tuple[str, str]]] = {}
        for row in turns.values():
            branches.setdefault((row["pane"], row["parent_id"]), []).append((row["id"], row["question"]))
        found = {}
        for pane, head in sorted(heads.items()):
            path: builtins.list[Turn] = []
            while head is not None:
                row = turns[head]
                path.append(_turn(row, tuple(branches[row["pane"], row["parent_id"]])))
                head = row["parent_id"]
            found[pane] = tuple(reversed(path))
        return found

    def go_to(self, conversation: str, turn: str) -> None:
        """Lets a turn's pane stand at the newest end of that branch. Raises CounterpointError for one that is not there,
        and as `Database.writing`."""
        with self._database.writing() as db:
            _require(db, conversation)
            row = db.execute(
                "SELECT pane FROM turn WHERE id = ? AND conversation_id = ?", [turn, conversation]
            ).fetchone()
            if row is None:
                raise CounterpointError("This branch is not there any more: open the conversation again.")
            newest = db.execute(
                "WITH RECURSIVE below (id, number) AS (SELECT id, number FROM turn WHERE id = ? UNION ALL "
                "SELECT turn.id, turn.number FROM turn JOIN below ON turn.parent_id = below.id) "
                "SELECT id FROM below ORDER BY number DESC LIMIT 1",
                [turn],
            ).fetchone()
            _stand_at(db, conversation, row[0], newest[0])

    # --- keeping order

    def rename(self, conversation: str, title: str) -> None:
        """Raises CounterpointError for a title of nothing, and as `go_to`."""
        title = " ".join(title.split())
        if not title:
            raise CounterpointError("A conversation needs a title: type one.")
        if len(title) > MAX_TITLE:
            raise CounterpointError(f"A title has at most {MAX_TITLE} characters: shorten it.")
        self._set(conversation, title=title)

    def pin(self, conversation: str, pinned: bool) -> None:
        """Raises as `go_to`."""
        self._set(conversation, pinned=int(pinned))

    def tag(self, conversation: str, tags: Iterable[str]) -> None:
        """These in place of those that it had. Raises CounterpointError for one that is too long, and as `go_to`."""
        names = sorted({" ".join(one.split()) for one in tags} - {""})
        if any(len(name) > MAX_TAG for name in names):
            raise CounterpointError(f"A tag has at most {MAX_TAG} characters: shorten it.")
        with self._database.writing() as db:
            _require(db, conversation)
            db.table("tag").delete_where("conversation_id = ?", [conversation])
            db.table("tag").insert_all({"conversation_id": conversation, "name": name} for name in names)

    def delete(self, conversation: str) -> None:
        """Takes it out of every list; `restore` brings it back whole. Raises as `go_to`."""
        self._set(conversation, deleted_at=_now())

    def restore(self, conversation: str) -> None:
        """Raises as `go_to`."""
        self._set(conversation, deleted_at=None)

    def _set(self, conversation: str, **values: Any) -> None:
        with self._database.writing() as db:
            db.table("conversation").update(_require(db, conversation), values)


def shortened(text: str, most: int) -> str:
    """In one line of so many characters at the most."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _listed(
    db: Connection, where: str, values: Sequence[Any], found: Mapping[str, str], limit: int
) -> Iterator[Conversation]:
    rows = db.query(
        "SELECT id, kind, title, created_at, changed_at, pinned, "
        "(SELECT count(*) FROM turn WHERE conversation_id = conversation.id) AS turns, "
        "(SELECT json_group_array(name) FROM tag WHERE conversation_id = conversation.id) AS tags "
        f"FROM conversation WHERE {where} ORDER BY pinned DESC, changed_at DESC, number DESC LIMIT ?",
        [*values, limit],
    )
    for row in rows:
        tags = tuple(sorted(json.loads(row["tags"])))
        told = {**row, "pinned": bool(row["pinned"]), "tags": tags, "found": found.get(row["id"], "")}
        yield Conversation(**told)


def _search(db: Connection, search: str, person: str) -> dict[str, str] | None:
    """By conversation what was found, the newest first; None where nothing is searched for."""
    words = re.findall(r"\w+", search)
    if not words:
        return {} if search.strip() else None
    wanted = " ".join(f'"{word}"*' for word in words)
    begin, end = _MARKS
    found: dict[str, str] = {}
    for conversation, told in db.execute(
        "SELECT conversation_id, snippet(turn_fts, -1, ?, ?, '…', 16) "
        "FROM turn_fts JOIN turn ON turn.number = turn_fts.rowid JOIN conversation ON conversation.id = conversation_id "
        "WHERE turn_fts MATCH ? AND person = ? AND deleted_at IS NULL ORDER BY turn_fts.rowid DESC LIMIT ?",
        [begin, end, wanted, person, _HITS],
    ):
        found.setdefault(conversation, told)
    for (conversation,) in db.execute(
        "SELECT id FROM conversation_fts JOIN conversation ON number = conversation_fts.rowid "
        "WHERE conversation_fts MATCH ? AND person = ? AND deleted_at IS NULL ORDER BY conversation_fts.rowid DESC LIMIT ?",
        [wanted, person, _HITS],
    ):
        found.setdefault(conversation, "")
    return found


def _is_there(db: Connection, conversation: str) -> bool:
    return db.execute("SELECT 1 FROM conversation WHERE id = ?", [conversation]).fetchone() is not None


def _is_in(db: Connection, conversation: str, turn: str) -> bool:
    values = [turn, conversation]
    return (
        db.execute("SELECT 1 FROM turn WHERE id = ? AND conversation_id = ?", values).fetchone() is not None
    )


def _require(db: Connection, conversation: str) -> int:
    row = db.execute("SELECT number FROM conversation WHERE id = ?", [conversation]).fetchone()
    if row is None:
        raise CounterpointError("This conversation is not there any more: choose another.")
    return int(row[0])


def _number(db: Connection, turn: str) -> int:
    row = db.execute("SELECT number FROM turn WHERE id = ?", [turn]).fetchone()
    if row is None:
        raise CounterpointError("This turn is not there any more: its conversation was removed meanwhile.")
    return int(row[0])


def _rows(db: Connection, table: str, columns: str, conversation: str) -> builtins.list[tuple[Any, ...]]:
    return list(db.execute(f"SELECT {columns} FROM {table} WHERE conversation_id = ?", [conversation]))


def _stand_at(db: Connection, conversation: str, pane: int, turn: str) -> None:
    db.execute(
        "INSERT INTO pane (conversation_id, number, turn_id) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET turn_id = excluded.turn_id",
        [conversation, pane, turn],
    )


def _turn(row: Mapping[str, Any], branches: tuple[tuple[str, str], ...]) -> Turn:
    return Turn(
        id=row["id"],
        pane=row["pane"],
        parent=row["parent_id"],
        run=row["run"],
        question=row["question"],
        mode=row["mode"],
        label=row["label"],
        family=row["family"],
        strength=row["strength"],
        state=row["state"],
        answer=row["answer"],
        notice=row["notice"],
        cut_off=bool(row["cut_off"]),
        receipt=json.loads(row["receipt"]),
        steps=tuple(json.loads(row["steps"])),
        timing=tuple((seconds, count) for seconds, count in json.loads(row["timing"])),
        asked_at=row["asked_at"],
        ended_at=row["ended_at"],
        branches=branches,
    )


def _lives(owner: str | None) -> bool:
    """Whether the process that a turn is under way in goes on."""
    try:
        return owner is not None and processes.find(json.loads(owner)) is not None
    except ValueError:
        return False


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
