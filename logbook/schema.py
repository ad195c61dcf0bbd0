"""The logbook's tables, as numbered steps from an empty file to today's: a step that was released is never changed."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

MIGRATIONS = Migrations("logbook")


@MIGRATIONS(name="0001_conversations_and_ratings")
def _conversations_and_ratings(db: Database) -> None:
    db.executescript("""
        -- `number`, here as elsewhere, is what the full-text index knows a row by: one that VACUUM leaves as it is.
        CREATE TABLE conversation (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL CHECK (kind IN ('compare', 'chat')),
            title TEXT NOT NULL,
            created_at TEXT NOT NULL,
            changed_at TEXT NOT NULL,
            pinned INTEGER NOT NULL DEFAULT 0,
            deleted_at TEXT,
            person TEXT NOT NULL DEFAULT ''
        ) STRICT;
        CREATE INDEX conversation_person ON conversation (person, changed_at);

        CREATE TABLE tag (
            conversation_id TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            PRIMARY KEY (conversation_id, name)
        ) STRICT, WITHOUT ROWID;

        -- One question in one pane, and what became of it. Those of a pane are a tree: an edited question is another
        -- child of the same parent.
        CREATE TABLE turn (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            conversation_id TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            pane INTEGER NOT NULL,
            parent_id TEXT REFERENCES turn (id) ON DELETE CASCADE,
            run TEXT NOT NULL,
            question TEXT NOT NULL,
            mode TEXT NOT NULL,
            label TEXT NOT NULL,
            family TEXT NOT NULL,
            strength REAL NOT NULL DEFAULT 1.0,
            state TEXT NOT NULL CHECK (state IN ('running', 'done', 'stopped', 'failed', 'lost')),
            answer TEXT NOT NULL DEFAULT '',
            notice TEXT NOT NULL DEFAULT '',
            cut_off INTEGER NOT NULL DEFAULT 0,
            receipt TEXT NOT NULL DEFAULT '{}',
            steps TEXT NOT NULL DEFAULT '[]',
            timing TEXT NOT NULL DEFAULT '[]',
            asked_at TEXT NOT NULL,
            ended_at TEXT,
            owner TEXT
        ) STRICT;
        CREATE INDEX turn_conversation ON turn (conversation_id, pane);
        CREATE INDEX turn_parent ON turn (parent_id);
        CREATE INDEX turn_running ON turn (state) WHERE state = 'running';

        -- The turn that each pane stands at: of several branches, the one that goes on.
        CREATE TABLE pane (
            conversation_id TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            turn_id TEXT REFERENCES turn (id) ON DELETE SET NULL,
            PRIMARY KEY (conversation_id, number)
        ) STRICT, WITHOUT ROWID;

        -- Every verdict that was said, the newest of an answer counts; none where it was taken back.
        CREATE TABLE rating (
            number INTEGER PRIMARY KEY,
            answer_id TEXT NOT NULL,
            at TEXT NOT NULL,
            verdict TEXT CHECK (verdict IN ('good', 'bad')),
            mode TEXT NOT NULL,
            persona TEXT,
            conversation TEXT NOT NULL,
            answer TEXT NOT NULL,
            cut_off INTEGER NOT NULL DEFAULT 0,
            receipt TEXT NOT NULL
        ) STRICT;
        CREATE INDEX rating_answer ON rating (answer_id);
        CREATE INDEX rating_persona ON rating (persona, verdict);
    """)
    _index(db, "turn", "question", "answer")
    _index(db, "conversation", "title")


def _index(db: Database, table: str, *columns: str) -> None:
    """Finds a table's rows by words of its columns, and by their beginnings as fast: `enable_fts` makes no index of these.

    The triggers are those of https://www.sqlite.org/fts5.html, "External Content Tables".
    """
    names = ", ".join(columns)
    new, old = (", ".join(f"{row}.{column}" for column in columns) for row in ("new", "old"))
    insert = f"INSERT INTO {table}_fts (rowid, {names}) VALUES (new.number, {new});"
    delete = f"INSERT INTO {table}_fts ({table}_fts, rowid, {names}) VALUES ('delete', old.number, {old});"
    db.executescript(f"""
        CREATE VIRTUAL TABLE {table}_fts USING fts5 (
            {names}, content = '{table}', content_rowid = 'number', prefix = '1 2 3',
            tokenize = 'unicode61 remove_diacritics 2'
        );
        CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN {insert} END;
        CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN {delete} END;
        CREATE TRIGGER {table}_updated AFTER UPDATE OF {names} ON {table} BEGIN {delete} {insert} END;
    """)
