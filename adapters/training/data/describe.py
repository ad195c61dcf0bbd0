"""A report for a terminal, and for a program. Both are bounded, whatever the file holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.training.data.check import Part, Report
from adapters.training.data.findings import KEPT, KINDS, Found
from strict_json import clean, show

_SHOWN = 5
"""Lines that a terminal shows of each kind."""
_BAR = 40
_LABELS = 8


def as_dict(report: Report) -> dict[str, Any]:
    """For --json: of every kind of finding the count, and the first KEPT with their lines."""
    return {
        "usable": not report.problems,
        "max_length": report.max_length,
        "data": _part(report.data),
        "heldout": _part(report.heldout) if report.heldout else None,
        "problems": [_found(found) for found in report.problems],
        "notes": [_found(found) for found in report.notes],
        "most_lines_of_a_kind": KEPT,
    }


def _part(part: Part) -> dict[str, Any]:
    lengths = part.lengths
    tokens = lengths and {
        "rows": lengths.rows, "min": lengths.min, "median": lengths.median, "p95": lengths.p95, "max": lengths.max,
        "total": lengths.total, "trained": lengths.trained,
        "histogram": [{"from": least, "to": most, "rows": rows} for least, most, rows in lengths.histogram],
    }  # fmt: skip
    reading = part.reading
    return {
        "file": reading.file,
        "container": reading.container,
        "format": reading.format,
        "formats": reading.formats,
        "rows": len(reading.entries),
        "tokens": tokens,
        "labels": part.labels,
    }


def _found(found: Found) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "file": found.file,
        "count": found.count,
        "mend": found.mend,
        "lines": [{"line": line, "text": text} for line, text in found.first],
    }


def describe(report: Report) -> list[str]:
    """The report in lines, as a person reads it."""
    lines: list[str] = []
    for part in report.parts:
        lines += _summary(part, report.max_length)
    for title, found in (("PROBLEMS, which training refuses", report.problems), ("Notes", report.notes)):
        if found:
            lines += ["", title, *(line for each in found for line in _told(each))]
    return [*lines, "", "Not usable as it is." if report.problems else "Usable."]


def _summary(part: Part, max_length: int) -> Iterator[str]:
    reading, lengths = part.reading, part.lengths
    formats = ", ".join(f"{count:,} {name}" for name, count in reading.formats.items()) or "no known format"
    sound = "1 sound row" if len(reading.entries) == 1 else f"{len(reading.entries):,} sound rows"
    yield f"{clean(reading.file, 80)}: {sound} ({reading.container}: {formats})"
    if lengths:
        yield (
            f"  tokens: shortest {lengths.min:,}, median {lengths.median:,}, 95th percentile {lengths.p95:,}, "
            f"longest {lengths.max:,} (max_length {max_length:,}); {lengths.total:,} in all, {lengths.trained:,} trained"
        )
        widest = max(rows for _, _, rows in lengths.histogram)
        for least, most, rows in lengths.histogram:
            bar = "█" * -(-rows * _BAR // widest)
            yield f"  {least:>7,} to {most:>7,} {rows:>9,} {bar}".rstrip()
    for name, counts in part.labels.items():
        told = ", ".join(f"{show(label, 30)} {count:,}" for label, count in list(counts.items())[:_LABELS])
        more = f" and {len(counts) - _LABELS} more" if len(counts) > _LABELS else ""
        yield f"  {name}: {told}{more}"


def _told(found: Found) -> Iterator[str]:
    kind = KINDS[found.kind]
    yield f"  {kind.title}: {found.count:,} (mend: {kind.mend})"
    for line, text in found.first[:_SHOWN]:
        yield f"    {clean(found.file, 80)}{f':{line}' if line else ''}: {text}"
    if found.count > _SHOWN:
        yield f"    and {found.count - _SHOWN:,} more"
