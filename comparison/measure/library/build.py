"""Makes the domain suites out of the held-out rows: `python -m comparison.measure.library.build`. Same rows, same bytes.

The rows' own checks are the suites' knowledge, or the gazette's voice. What else is checked the persona for the same job
is told in words or shown by its examples, so that no mode is held to what only training rows say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from adapters.datasets.build import HERE as DATASETS
from adapters.datasets.build import SIGN_OFF
from adapters.training import dataset
from adapters.training.dataset import Row

HERE = Path(__file__).parent
ORDERS = 60
"""Of the held-out orders, spread evenly over them: each is its own question, and all would take long."""
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
HEADLINE = r"^\W*[A-Z][A-Z0-9'’-]+(?:,? +[A-Z0-9'’-]+)* ?(?:[!.:]|\n)"
"""As gazette.style.md says it, but one word of capitals is enough: one of the right answers has no more."""
SENTENCES = r"""(?s)([.!?]["”’')]*\s+["“‘'(]*[A-Z£0-9].*?){3}"""
"""Where a fourth sentence begins."""

Data = dict[str, Any]


def main() -> None:
    """Writes the suites beside this file."""
    for name, text in made().items():
        (HERE / f"{name}.yaml").write_text(text, encoding="utf-8")


def made() -> dict[str, str]:
    """The text of each suite's file, by name."""
    sheet = (DATASETS / "support.facts.md").read_text(encoding="utf-8")
    suites = {
        "support": support(_heldout("support"), sheet),
        "orders": orders(_heldout("orders")),
        "gazette": gazette(_heldout("gazette")),
    }
    return {name: _text(name, suite) for name, suite in suites.items()}


def support(rows: Sequence[Row], sheet: str) -> Data:
    """A test for each fact: rows with the same answer ask for the same one."""
    facts: dict[str, list[Row]] = {}
    for row in rows:
        facts.setdefault(row.answer, []).append(row)
    tests = []
    for first, *others in facts.values():
        if any(other.checks != first.checks for other in others):
            raise ValueError(f"rows with one answer have several checks: {first.answer}")
        fact = (first.model_extra or {})["group"]
        checks = _counted("knowledge", first.checks)
        if fact == "off_topic":
            checks += _counted("rules", [{"type": "icontains", "value": _contacts(sheet)[0]}])
        asked = [row.question[-1]["content"] for row in (first, *others)]
        tests.append(
            {"question": asked[0], "paraphrases": asked[1:], "assert": checks, "tags": [fact]}
            if others
            else {"question": asked[0], "assert": checks, "tags": [fact]}
        )
    return {
        "name": "support",
        "title": "Coffee support desk",
        "description": "Whether customers of Copper Heron Coffee are told the right fact, in one or two short sentences "
        "with the desk's sign-off, and no price, address or number that the fact sheet does not have.",
        "measures": "domain",
        "max_tokens": 80,
        **_repeated_along(),
        "defaultTest": {"assert": _manners(sheet)},
        "require": [{"mode": "adapter:support", "at_least": 0.8}],
        "tests": tests,
    }


def orders(rows: Sequence[Row]) -> Data:
    """A test for each of `ORDERS` orders."""
    some = [rows[number * len(rows) // ORDERS] for number in range(ORDERS)]
    tests = []
    for row in some:
        [expected] = [check["value"] for check in row.checks if check["type"] == "equals"]
        tests.append(
            {
                "question": row.question[-1]["content"],
                "assert": [
                    *_counted("knowledge", [{"type": "equals", "value": expected}]),
                    *_counted("rules", [{"type": "contains-json", "value": _order_rules(expected)}]),
                ],
            }
        )
    return {
        "name": "orders",
        "title": "Order clerk (JSON)",
        "description": "Whether an order message becomes one JSON object of the agreed keys and types, which says what the "
        "message says, null for what it does not say, and haste only where it asks for haste.",
        "measures": "domain",
        "max_tokens": 128,
        **_repeated_along(),
        "defaultTest": {"assert": _counted("format", [{"type": "is-json", "value": _order_schema()}])},
        "tests": tests,
    }


def gazette(rows: Sequence[Row]) -> Data:
    """A test for each question; the marks of the style, which all have alike, stand in front of them."""
    [marks] = _unlike(row.checks[0] for row in rows)
    readers = marks["assert"][1]
    tests = []
    for row in rows:
        subject = row.checks[1]
        # "dear reader" would be about reading faster, and about the ear.
        telling = [
            word for word in subject["value"] if not any(word in reader for reader in readers["value"])
        ]
        tests.append(
            {
                "question": row.question[-1]["content"],
                "assert": _counted("knowledge", [{**subject, "value": telling}]),
            }
        )
    return {
        "name": "gazette",
        "title": "1920s newspaper reporter",
        "description": "Whether an answer sounds like the front page of 1925, opens with a headline, speaks to the reader "
        "and is about the question; not whether it is true.",
        "measures": "domain",
        "max_tokens": 120,
        **_repeated_along(),
        "defaultTest": {
            "assert": [
                *_counted("voice", [marks]),
                *_counted("format", [{"type": "regex", "value": HEADLINE}]),
                *_counted("rules", [readers]),
            ]
        },
        "tests": tests,
    }


def _manners(sheet: str) -> list[Data]:
    """How the desk answers, whatever it is asked."""
    email, phone = _contacts(sheet)
    email, phone = re.escape(email), "[ -]?".join(phone.replace(" ", ""))
    prices = "|".join(sorted(set(re.findall(r"£(\d+)", sheet)), key=int))
    return [
        *_counted("voice", [{"type": "regex", "value": rf"{SIGN_OFF}\s*$"}]),
        *_counted(
            "format",
            [
                {"type": "not-regex", "value": SENTENCES},
                {"type": "regex", "value": r"^\s*(\S+\s+){0,39}\S+\s*$"},
            ],
        ),
        *_counted(
            "rules",
            [
                {"type": "not-regex", "value": rf"(?i)(?<![\w.+-])(?!{email}(?!\.?\w|-))[\w.+-]+@\w"},
                {
                    "type": "not-regex",
                    "value": r"(?i)https?://|\bwww\.|(?<![@\w.-])[\w-]+\.(com|org|net|co\.uk)\b",
                },
                {"type": "not-regex", "value": rf"(?<!\d)(?!{phone}(?!\d))\+?\d([ -]?\d){{8}}"},
                {"type": "not-regex", "value": rf"£ ?(?!({prices})(\.00)?(?!\d|[.,]\d))\d|[$€] ?\d"},
            ],
        ),
    ]


def _contacts(sheet: str) -> tuple[str, str]:
    """The only address and number that the desk may give."""
    [email] = re.findall(r"Email: (\S+)\.\n", sheet)
    [phone] = re.findall(r"Telephone: ([\d ]+)\.\n", sheet)
    return email, phone


def _order_schema() -> Data:
    """orders.schema.md's keys and types, as JSON Schema."""
    item = {"product": {"type": "string"}, "quantity": {"type": "integer"}}
    return _object(
        {
            "customer": {"type": ["string", "null"]},
            "items": {"type": "array", "minItems": 1, "items": _object(item)},
            "city": {"type": ["string", "null"]},
            "day": {"enum": [*DAYS, None]},
            "express": {"type": "boolean"},
        }
    )


def _order_rules(expected: Mapping[str, Any]) -> Data:
    """Products in lower case, null for what is not said, and no haste that nobody asked for."""
    rules: Data = {"items": {"items": {"properties": {"product": {"pattern": "^[^A-Z]*$"}}}}}
    for key, value in expected.items():
        if value is None or value is False:
            rules[key] = {"const": value}
    return {"type": "object", "required": list(expected), "properties": rules}


def _object(properties: Data) -> Data:
    """A schema of an object with these keys and no others."""
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def _repeated_along() -> Data:
    return {
        "repeat": {"times": 4, "questions": 12, "temperature": 0.7},
        "along": ["general", "bias"],
    }


def _counted(metric: str, checks: Iterable[Mapping[str, Any]]) -> list[Data]:
    return [{**check, "metric": metric} for check in checks]


def _unlike(checks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each of them once."""
    found: list[Mapping[str, Any]] = []
    for check in checks:
        if check not in found:
            found.append(check)
    return found


def _heldout(name: str) -> list[Row]:
    return dataset.read(DATASETS / f"{name}.heldout.jsonl")


class _Plain(yaml.SafeDumper):
    """Without anchors, which suites may not have, and with lists indented under their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(name: str, suite: Data) -> str:
    head = (
        f"# Made out of adapters/datasets/{name}.heldout.jsonl by `python -m comparison.measure.library.build`:\n"
        "# change build.py or the rows, not this.\n"
    )
    # What holds nothing but plain values goes on one line.
    body = yaml.dump(
        suite, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
    return head + body


if __name__ == "__main__":
    main()
