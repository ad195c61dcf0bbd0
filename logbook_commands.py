"""What the commands of the logbook do: all of it out, and back in."""

from __future__ import annotations

import argparse
import json
import os
import sys

from assembly import Places, tell
from errors import DONE, CounterpointError, WorkFailed


def export_logbook(options: argparse.Namespace) -> int:
    """Writes all that the logbook has as lines of JSON, whole or not at all."""
    from logbook.logbook import Logbook
    from logbook.travel import export

    _refuse_what_is_there(options)
    lines = list(export(Logbook(Places.from_options(options).data, tell).database))
    _write(options, lines)
    if options.json:
        print(json.dumps({"out": str(options.out), "rows": len(lines) - 1}))
    else:
        print(options.out)
    return DONE


def export_ratings(options: argparse.Namespace) -> int:
    """Writes what was rated as rows to train on: good conversations, or pairs of a good and a bad answer."""
    from logbook.logbook import Logbook

    if options.to not in ("messages", "preferences"):
        raise CounterpointError(f"--to {options.to}: choose messages or preferences.")
    _refuse_what_is_there(options)
    ratings = Logbook(Places.from_options(options).data, tell).ratings
    unfit, rows = 0, []
    if options.to == "messages":
        chats, unfit = ratings.to_train_on(options.persona)
        rows = [{"messages": [dict(message) for message in chat]} for chat in chats]
    else:
        rows = [one.as_dict() for one in ratings.preferences(options.persona)]
    if not rows:
        needed = (
            "answers as good"
            if options.to == "messages"
            else "one answer to a question as good and another as bad"
        )
        raise CounterpointError(f"There is nothing to write: rate {needed} in Compare or Chat first.")
    _write(options, [json.dumps(row, ensure_ascii=False) + "\n" for row in rows])
    if unfit:
        print(
            f"counterpoint: {unfit} good answers were cut off, or follow one that is not rated so: left out",
            file=sys.stderr,
        )
    if options.json:
        print(json.dumps({"out": str(options.out), "rows": len(rows), "left_out": unfit}))
    else:
        print(f"{options.out}: {len(rows)} rows")
    return DONE


def _refuse_what_is_there(options: argparse.Namespace) -> None:
    if os.path.lexists(options.out) and not (options.replace and os.path.isfile(options.out)):
        raise CounterpointError(f"--out {options.out} exists already: name another file, or add --replace.")


def _write(options: argparse.Namespace, lines: list[str]) -> None:
    import durable

    try:
        durable.write(options.out, "".join(lines))
    except OSError as error:
        raise WorkFailed(
            f"--out {options.out} cannot be written ({error.strerror or error}): name a file in another folder."
        ) from None


def import_logbook(options: argparse.Namespace) -> int:
    """Adds what an export has and the logbook has not; what is there stays as it is."""
    from logbook.logbook import Logbook
    from logbook.travel import take_in

    logbook = Logbook(Places.from_options(options).data, tell)
    try:
        with options.file.open(encoding="utf-8", newline="\n") as lines:
            added = take_in(logbook.database, lines)
    except UnicodeDecodeError:
        raise CounterpointError(
            f"{options.file} is not UTF-8 text: give what export-logbook wrote."
        ) from None
    except OSError as error:
        raise CounterpointError(
            f"{options.file} cannot be read ({error.strerror}): name another file."
        ) from None
    except CounterpointError as error:
        raise type(error)(f"{options.file}: {error}") from None
    if options.json:
        print(json.dumps(added))
    else:
        told = ", ".join(f"{count:,} {name}" for name, count in added.items() if count)
        print(f"added: {told or 'nothing that was not there'}")
    return DONE
