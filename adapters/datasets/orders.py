"""Order messages and the JSON they become, put together from source/orders.yaml with a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
SPELLED = 6
GROUPS = {2: ("a couple of", "a pair of"), 6: ("half a dozen",), 12: ("a dozen",)}

Pieces = dict[str, list[Any]]


def order(pieces: Pieces, chance: random.Random) -> tuple[str, dict[str, Any]]:
    """One message and its right answer, with the keys in the order of orders.schema.md."""
    items, told = _items(pieces, chance)
    name = _name(pieces, chance) if chance.random() < 0.75 else None
    city = _proper(pieces, "cities", 0.5, chance) if chance.random() < 0.75 else None
    day = chance.choice(DAYS) if chance.random() < 0.65 else None
    express = chance.random() < 0.4

    sentences: list[str] = []
    inline = {"items": told, "where": "", "when": ""}
    if city and chance.random() < 0.6:
        inline["where"] = chance.choice(pieces["where"]).format(city=city)
    elif city:
        sentences.append(chance.choice(pieces["where_sentences"]).format(city=city))
    if day and chance.random() < 0.6:
        inline["when"] = chance.choice(pieces["when"]).format(day=day.capitalize())
    elif day:
        sentences.append(
            chance.choice(pieces["when_sentences"]).format(day=day.capitalize(), Day=day.capitalize())
        )
    if express:
        sentences.append(chance.choice(pieces["haste"]))
    elif chance.random() < 0.2:
        sentences.append(chance.choice(pieces["no_haste"]))
    if chance.random() < 0.3:
        sentences.append(chance.choice(pieces["asides"]))
    chance.shuffle(sentences)

    signs = name is not None and chance.random() < 0.4
    if name and not signs:
        opening = chance.choice(pieces["openings_named"]).format(name=name)
    else:
        opening = chance.choice(pieces["openings"])
    request = chance.choice(pieces["requests"]).format(**inline)
    request = re.sub(",(?=[,.?!])", "", request)
    if not opening.endswith(","):
        request = request[0].upper() + request[1:]
    if signs:
        sentences.append(chance.choice(pieces["closings_named"]).format(name=name))
    message = " ".join(part for part in (opening, request, *sentences) if part)
    return message, {"customer": name, "items": items, "city": city, "day": day, "express": express}


def spellings(words: Sequence[str], chance: random.Random) -> list[tuple[str, list[str]]]:
    """Every word once, `SPELLED` in a message, and the JSON list that they become.

    Most words are one token after a space and several after a quotation mark. A name goes into JSON right only
    if the model can spell it; here it learns that from many words, in few tokens.
    """
    shuffled = chance.sample(words, len(words))
    chosen = [shuffled[start : start + SPELLED] for start in range(0, len(words), SPELLED)]
    return [(f"Write as a JSON list: {', '.join(some)}", some) for some in chosen]


def _name(pieces: Pieces, chance: random.Random) -> str:
    first = _proper(pieces, "first_names", 0.4, chance)
    return first if chance.random() < 0.4 else f"{first} {_proper(pieces, 'last_names', 0.3, chance)}"


def _proper(pieces: Pieces, kind: str, share: float, chance: random.Random) -> str:
    """A name of that kind; where `words` are given, for that share of the draws one of those instead."""
    if "words" in pieces and chance.random() < share:
        kind = "words"
    return str(chance.choice(pieces[kind]))


def _items(pieces: Pieces, chance: random.Random) -> tuple[list[dict[str, Any]], str]:
    items, told = [], []
    for shelf in chance.sample(pieces["products"], 1 if chance.random() < 0.5 else 2):
        product = chance.choice(shelf["nouns"])
        if chance.random() < 0.75:
            product = f"{chance.choice(shelf['adjectives'])} {product}"
        quantity = 1 if chance.random() < 0.25 else chance.choice(pieces["numbers"])
        if quantity > 1:
            product = _plural(product)
        shown = product.title() if chance.random() < 0.1 else product
        items.append({"product": product, "quantity": quantity})
        told.append(f"{_count(quantity, product, chance)} {shown}")
    return items, " and ".join(told)


def _count(quantity: int, product: str, chance: random.Random) -> str:
    if quantity == 1:
        return chance.choice(("one", "1", "an" if product[0] in "aeiou" else "a"))
    if quantity in GROUPS and chance.random() < 0.4:
        return chance.choice(GROUPS[quantity])
    if quantity <= 12 and chance.random() < 0.6:
        return WORDS[quantity]
    return chance.choice((str(quantity), str(quantity), f"{quantity} x"))


def _plural(product: str) -> str:
    if product.endswith(("loaf", "shelf", "scarf")):
        return product[:-1] + "ves"
    if product.endswith("knife"):
        return product[:-2] + "ves"
    if product.endswith("y") and product[-2] not in "aeo":
        return product[:-1] + "ies"
    return product + ("es" if product.endswith(("s", "sh", "ch", "x")) else "s")
