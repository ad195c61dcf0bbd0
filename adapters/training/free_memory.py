"""How much memory a run of training could have: what is free, and what this process holds for it already."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def available(device: str, taken: int) -> int:
    """Bytes that a run has for itself: what is free, and the part of `taken` bytes that this process holds already.

    Of the GPU's memory on `cuda`. In a container, no more than its limit leaves.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0]) + min(taken, torch.cuda.memory_reserved())
    free = int(psutil.virtual_memory().available)
    limited = limit_left(_CGROUPS, _OWN_GROUP)
    # Pages of files are free for others already; only Linux tells them apart.
    memory = psutil.Process().memory_info()
    held = int(memory.rss - getattr(memory, "shared", 0))
    return (free if limited is None else min(free, limited)) + min(taken, held)


def limit_left(cgroups: Path, own_group: Path) -> int | None:
    """Bytes left of the tightest limit on this process; None where there is none.

    As Linux's cgroups of version 2 have it (the kernel's admin-guide/cgroup-v2, "Memory Interface Files"): a limit
    of a group holds for all groups in it, and file pages that nobody uses are given back when needed.
    """
    try:
        group = next(
            line[3:] for line in own_group.read_text(encoding="ascii").splitlines() if line.startswith("0::")
        )
    except (OSError, StopIteration, ValueError):
        return None
    inside = cgroups / group.lstrip("/")
    folders = [inside, *(folder for folder in inside.parents if folder.is_relative_to(cgroups))]
    return min((left for left in map(_left, folders) if left is not None), default=None)


def _left(folder: Path) -> int | None:
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))  # or "max"
        taken = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return max(0, limit - taken + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None
