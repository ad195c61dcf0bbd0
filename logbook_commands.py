"""What the commands of the logbook do: all of it out, and back in."""

from __future__ import annotations

import argparse
import json
import os

from assembly import Places, tell
from errors import DONE, CounterpointError, WorkFailed


def export_logbook(options: argparse.Namespace) -> int:
    """Writes all that the logbook has as lines of JSON, whole or not at all."""
    import durable
    from logbook.logbook import Logbook
    from logbook.travel import export

    if os.path.lexists(options.out) and not (options.replace and os.path.isfile(options.out)):
        raise CounterpointError(f"--out {options.out} exists already: name another file, or add --replace.")
    lines = list(export(Logbook(Places.from_options(options).data, tell).database))
    try:
        durable.write(options.out, "".join(lines))
    except OSError as error:
        raise WorkFailed(
            f"--out {options.out} cannot be written ({error.strerror or error}): name a file in another folder."
        ) from None
    if options.json:
        print(json.dumps({"out": str(options.out), "rows": len(lines) - 1}))
    else:
        print(options.out)
    return DONE


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
