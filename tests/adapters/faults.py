"""Ends training runs at random, for test_faults.py: by kill -9, or by a disk that takes no more.

    python -m tests.adapters.faults kill|disk RECIPE OUT BASE TIMES SEED

A process of its own, which has imported all that training needs and started no thread: each run is a fork of it, so
that many can be ended in a minute. Prints one JSON object: how the runs ended, and whether anything half-made was seen.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import peft  # noqa: F401  (forked runs shall not import it again)
import torch
import transformers  # noqa: F401

from adapters import passport
from adapters.training import fit, looks, lora  # noqa: F401
from adapters.training.run import train
from errors import CounterpointError

UNBROKEN, KILLED, TOLD, FINISHED = "unbroken", "killed", "told", "finished"
_LIMITS = (2**11, 2**16)
"""Bytes to which a file can grow on a full disk: from settings alone to all but the largest files of a checkpoint."""


def forked(recipe: Path, out: Path, base: Path, limit: int | None = None) -> int:
    """Begins or goes on with a run in a process of its own; returns its number."""
    number = os.fork()
    if number:
        return number
    status = 0
    try:
        torch.set_num_threads(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        train(recipe, out, base, resume=True)
    except CounterpointError as error:
        status = 3 if "\n" not in str(error) and "make room" in str(error) else 4
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 5
    os._exit(status)


def ended(number: int) -> int:
    _, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status)


def half_made(out: Path) -> bool:
    """Whether there is an adapter that is not whole."""
    if not out.exists():
        return False
    found = passport.read(out)
    return found is None or not (out / "adapter_config.json").is_file()


def main() -> None:
    kind, recipe, out, base, times, seed = sys.argv[1:]
    draw = random.Random(int(seed))
    paths = Path(recipe), Path(out), Path(base)
    began = time.monotonic()
    if ended(forked(paths[0], Path(out + "-" + UNBROKEN), paths[2])):
        raise SystemExit("the unbroken run failed")
    whole = time.monotonic() - began
    told: dict[str, int] = {KILLED: 0, TOLD: 0, FINISHED: 0, "half_made": 0, "strange": 0}
    target, made = paths[1], 0
    while told[KILLED] + told[TOLD] < int(times):
        limit = int(draw.uniform(*_LIMITS)) if kind == "disk" else None
        number = forked(paths[0], target, paths[2], limit)
        if kind == "kill":
            time.sleep(draw.uniform(0, whole))
            os.kill(number, signal.SIGKILL)
        status = ended(number)
        told["half_made"] += half_made(target)
        if status == 0:  # it was through before: the next ones end another run
            told[FINISHED] += 1
            made += 1
            target = Path(f"{out}-{made}")
        elif status == -signal.SIGKILL:
            told[KILLED] += 1
        elif status == 3:
            told[TOLD] += 1
        else:
            told["strange"] += 1
            break
    if not target.exists() and ended(forked(paths[0], target, paths[2])):
        raise SystemExit("the run could not be gone on with")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
