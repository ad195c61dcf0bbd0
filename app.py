"""Start here: reads the options, then runs a command or serves the page.

Nothing heavy is imported before a command needs it, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from errors import BAD_INPUT, FAILED, CounterpointError, WorkFailed

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""How an output fails that goes to a full or failing disk."""


class _Parser(argparse.ArgumentParser):
    """Errors are one line on stderr and exit 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"counterpoint: {message} (see {self.prog} --help)\n")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a number, not {text!r}") from None


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a whole number, not {text!r}") from None


def _from_environment(command: argparse.ArgumentParser) -> None:
    """Lets a variable set each option's default: COUNTERPOINT_ and the option's name in capitals.

    --mode, which is repeated, is the one exception.
    """
    for action in command._actions:
        name = next((option for option in action.option_strings if option.startswith("--")), "--help")
        if name in ("--help", "--mode"):
            continue
        variable = "COUNTERPOINT_" + name.removeprefix("--").replace("-", "_").upper()
        if variable in (action.help or ""):
            continue  # the engine's options are the same objects in every command
        shown = f"default: {action.default}; " if action.default else ""
        action.help = f"{action.help} ({shown}{variable})"
        value = os.environ.get(variable)
        if value:
            # argparse gives a text default the option's type, as if it had been typed.
            action.default = _switch(command, variable, value) if action.nargs == 0 else value
            action.required = False


def _switch(command: argparse.ArgumentParser, variable: str, value: str) -> bool:
    for words, on in ((("1", "true", "yes", "on"), True), (("0", "false", "no", "off"), False)):
        if value.lower() in words:
            return on
    command.error(f"{variable} is {value!r}: set it to 1 or 0")


def _engine_options() -> _Parser:
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("the engine, for every command")
    group.add_argument(
        "--base", default="embedded", metavar="ID_OR_FOLDER", help="base model: a Hub id or a local folder"
    )
    group.add_argument(
        "--quantization", default="nf4", metavar="nf4|int8|none", help="how its weights are kept"
    )
    group.add_argument("--dtype", default="auto", metavar="auto|float32|bfloat16", help="what it computes in")
    group.add_argument(
        "--backend",
        default="local",
        metavar="local|URL|NAME",
        help="what computes the answers: this machine, or a server that speaks the OpenAI API",
    )
    group.add_argument(
        "--data-dir", metavar="DIR", help="what you make; by default the platform's user data folder"
    )
    return parser


def _measuring(commands: Any, engine: _Parser) -> tuple[_Parser, ...]:
    """The commands that measure."""
    measure = commands.add_parser("measure", parents=[engine], help="measure modes by a suite of questions")
    measure.add_argument("suite", metavar="SUITE", help="a YAML or CSV file, or the name of one that ships")
    measure.add_argument("--mode", action="append", metavar="ID", help="a mode; repeat for more")
    measure.add_argument(
        "--variants", metavar="YAML", type=Path, help="what to vary of a persona: each variant is measured"
    )
    measure.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="for answers and report")
    measure.add_argument("--resume", action="store_true", help="go on with what was stopped or killed")
    measure.add_argument("--seed", type=_whole_number, metavar="N", help="for all answers (default: 0)")
    measure.add_argument(
        "--alone",
        type=_whole_number,
        metavar="N",
        help="so many questions a mode are timed alone (default: 12)",
    )
    measure.add_argument(
        "--python", action="store_true", help="run the suite's python checks, which may do what you may"
    )
    measure.add_argument("--machine-hour-price", type=_number, metavar="P", help="for an hour of the machine")
    measure.add_argument("--prompt-price", type=_number, metavar="P", help="for a million tokens of prompts")
    measure.add_argument(
        "--completion-price", type=_number, metavar="P", help="for a million tokens of answers"
    )
    measure.add_argument(
        "--training-price",
        type=_number,
        metavar="P",
        help="for training once (default: by the machine's hours)",
    )
    measure.add_argument("--currency", metavar="SIGN", help="of all prices (default: $)")
    report = commands.add_parser("report", parents=[engine], help="write a measurement's report again")
    report.add_argument("folder", metavar="FOLDER", type=Path, help="what measure was given as --out")
    save = commands.add_parser("save-variant", parents=[engine], help="make a persona of a measured variant")
    save.add_argument("folder", metavar="FOLDER", type=Path, help="what measure was given as --out")
    save.add_argument("--variant", metavar="ID", help="as the report calls it (default: the best)")
    save.add_argument("--name", metavar="NAME", required=True, help="what to call the persona")
    save.add_argument("--replace", action="store_true", help="over a persona of that name")
    return measure, report, save


def parser() -> _Parser:
    """The command line; design and README give it in words."""
    engine = _engine_options()
    top = _Parser(
        prog="python app.py",
        description="Prompt or fine-tune? Ask one question and see it answered both ways, side by side.",
        epilog="Without a command the page is served.",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    serve = commands.add_parser("serve", parents=[engine], help="serve the page (the default)")
    serve.add_argument("--host", default="127.0.0.1", metavar="HOST", help="address to listen on")
    serve.add_argument("--port", default="7860", metavar="PORT", help="port to listen on")
    serve.add_argument(
        "--public-host",
        metavar="NAME",
        help="the host name under which a proxy on this machine serves the page; commas between several",
    )
    serve.add_argument("--open", action="store_true", help="open the page in the browser")

    ask = commands.add_parser("ask", parents=[engine], help="ask one question through several modes")
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument("--mode", action="append", metavar="ID", required=True, help="a mode; repeat for more")
    ask.add_argument(
        "--temperature", type=_number, metavar="T", help="0 is greedy (default: as the mode says)"
    )
    ask.add_argument("--seed", type=_whole_number, metavar="N", help="the same seed gives the same answer")
    ask.add_argument("--max-tokens", type=_whole_number, metavar="N", help="longest answer")

    modes = commands.add_parser("modes", parents=[engine], help="list the modes")

    check = commands.add_parser("check-adapter", parents=[engine], help="say what is wrong with an adapter")
    check.add_argument("folder", metavar="FOLDER", type=Path)
    check.add_argument(
        "--override-base", action="store_true", help="accept an adapter that names another base"
    )

    data = commands.add_parser("check-data", parents=[engine], help="say what is wrong with training data")
    data.add_argument("file", metavar="FILE", type=Path)
    data.add_argument("--heldout", metavar="FILE", type=Path, help="the rows that training shall never see")
    data.add_argument(
        "--max-length",
        type=_whole_number,
        metavar="N",
        help="the most tokens of a row (default: what the base reads at once)",
    )

    split = commands.add_parser("split-data", parents=[engine], help="hold part of the training data out")
    split.add_argument("file", metavar="FILE", type=Path)
    split.add_argument(
        "--out", metavar="FOLDER", type=Path, required=True, help="for train.jsonl and heldout.jsonl"
    )
    split.add_argument(
        "--share", type=_number, metavar="S", help="held out, 0 to 1 (default: by the number of rows)"
    )
    split.add_argument(
        "--seed", type=_whole_number, default=0, metavar="N", help="the same seed holds out the same rows"
    )

    train = commands.add_parser("train", parents=[engine], help="train an adapter")
    train.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    train.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the new adapter's folder")
    train.add_argument("--resume", action="store_true", help="go on with a run that was stopped or killed")
    train.add_argument(
        "--publish", action="store_true", help="offer it as a mode if it passes the test after training"
    )

    test = commands.add_parser("test-adapter", parents=[engine], help="test a trained adapter again")
    test.add_argument("folder", metavar="FOLDER", type=Path, help="with its passport; or an adapter's name")
    test.add_argument(
        "--recipe",
        metavar="RECIPE",
        type=Path,
        help="what it was trained by (default: recipe.yaml in FOLDER)",
    )

    bring = commands.add_parser(
        "import-persona", parents=[engine], help="make a persona of a card, a character or a Modelfile"
    )
    bring.add_argument("file", metavar="FILE", type=Path)
    bring.add_argument("--name", metavar="NAME", help="what to call it (default: as the file says)")
    bring.add_argument("--replace", action="store_true", help="over a persona of that name")

    send = commands.add_parser(
        "export-persona", parents=[engine], help="write a persona as another program's file"
    )
    send.add_argument("name", metavar="NAME")
    send.add_argument(
        "--to",
        metavar="card|card-png|webui|modelfile|yaml|dataset",
        required=True,
        help="the format of the file",
    )
    send.add_argument("--out", metavar="FILE", type=Path, required=True, help="the new file")
    send.add_argument(
        "--adapter", metavar="FOLDER", type=Path, help="an adapter that a Modelfile shall name beside --base"
    )
    send.add_argument("--replace", action="store_true", help="over a file that is there")

    publish = commands.add_parser(
        "export-adapter", parents=[engine], help="write an adapter as a folder for other programs"
    )
    publish.add_argument("name", metavar="NAME")
    publish.add_argument(
        "--to", metavar="peft|merged|ollama", required=True, help="the adapter, a whole model, or for Ollama"
    )
    publish.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the new folder")
    publish.add_argument("--persona", metavar="NAME", help="a persona that Ollama's Modelfile shall hold")

    keep = commands.add_parser(
        "export-logbook", parents=[engine], help="write all that was asked, answered and rated as JSON lines"
    )
    keep.add_argument("--out", metavar="FILE", type=Path, required=True, help="the new file")
    keep.add_argument("--replace", action="store_true", help="over a file that is there")
    home = commands.add_parser(
        "import-logbook", parents=[engine], help="add what such a file has and the logbook has not"
    )
    home.add_argument("file", metavar="FILE", type=Path)

    rated = commands.add_parser(
        "export-ratings", parents=[engine], help="write what was rated as rows to train on"
    )
    rated.add_argument(
        "--to",
        metavar="messages|preferences",
        required=True,
        help="good answers, or pairs of a good and a bad one",
    )
    rated.add_argument("--persona", metavar="NAME", help="of this persona's answers alone")
    rated.add_argument("--out", metavar="FILE", type=Path, required=True, help="the new file")
    rated.add_argument("--replace", action="store_true", help="over a file that is there")

    several = [ask, modes, check, data, split, train, test, bring, send, publish, keep, home, rated]
    several += _measuring(commands, engine)
    for command in several:
        command.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    for command in (serve, *several):
        _from_environment(command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 the work failed, 2 bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "serve")
    options = parser().parse_args(given)
    try:
        import commands

        status = commands.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Who read our output has seen enough, as `| head` does.
        _leave_unsaid()
        return FAILED
    except CounterpointError as error:
        print(f"counterpoint: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED if isinstance(error, WorkFailed) else BAD_INPUT
    except OSError as error:
        if error.filename is not None or error.errno not in NO_ROOM:  # not our output's
            raise
        _leave_unsaid()
        why = error.strerror or error
        print(
            f"counterpoint: the output cannot be written ({why}): make room, or send it elsewhere.",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        print("counterpoint: stopped.", file=sys.stderr)
        return FAILED


def _leave_unsaid() -> None:
    """What is left of the output must not be flushed at the end: it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
