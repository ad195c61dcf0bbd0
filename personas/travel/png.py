"""Character cards as pictures: JSON in base64 in a tEXt chunk. Reading decodes no picture, so none can be a bomb."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Iterator

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from errors import CounterpointError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNK_BYTES = 8 * 2**20
"""Of a text chunk: more than the largest card in base64."""
SIZE = (400, 600)


def read(raw: bytes, source: str) -> tuple[bytes, list[str]]:
    """The card's JSON and notes of what was not read. Raises CounterpointError where the picture holds no card."""
    found: dict[str, bytes] = {}
    for kind, data in _chunks(raw, source):
        keyword, _, text = data.partition(b"\0")
        if kind == b"tEXt" and keyword.lower() in (b"chara", b"ccv3"):
            found.setdefault(keyword.decode().lower(), text)
    notes = ["the picture: a persona has none"]
    if "chara" in found and "ccv3" in found:
        notes.append("ccv3: the card's V3 form; its V2 form was read")
    card = found.get("chara", found.get("ccv3"))
    if card is None:
        raise CounterpointError(
            f"{source} is a picture without a character card (no tEXt chunk chara or ccv3): "
            "take the card's original file, not a copy that a site or a program has recompressed."
        )
    try:
        return base64.b64decode(b"".join(card.split()), validate=True), notes
    except binascii.Error:
        raise CounterpointError(
            f"{source} holds a card that is not in base64: it is damaged, fetch it anew."
        ) from None


def write(card: bytes, colour: str) -> bytes:
    """A plain picture in `colour` ("#a0b0c0") that carries the card."""
    info = PngInfo()
    info.add_text("chara", base64.b64encode(card).decode())
    file = io.BytesIO()
    Image.new("RGB", SIZE, colour).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _chunks(raw: bytes, source: str) -> Iterator[tuple[bytes, bytes]]:
    """The text chunks of a PNG file (PNG, third edition, section 5.3), with their sums checked."""
    place = len(SIGNATURE)
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4])
        kind, end = raw[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(raw):
            raise CounterpointError(f"{source} is cut off or no PNG file: fetch it anew.")
        if kind == b"IEND":
            return
        if kind == b"tEXt":
            if length > MAX_CHUNK_BYTES:
                raise CounterpointError(
                    f"{source} holds a text of {length:,} bytes, and {MAX_CHUNK_BYTES:,} fit: it is no card."
                )
            if zlib.crc32(raw[place + 4 : end]) != int.from_bytes(raw[end : end + 4]):
                raise CounterpointError(f"{source} is damaged (a chunk's sum is wrong): fetch it anew.")
            yield kind, raw[place + 8 : end]
        place = end + 4
