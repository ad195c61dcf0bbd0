from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from app import parser
from assembly import Places, build_parts

KEYS = "COUNTERPOINT_API_KEYS"


@pytest.mark.parametrize(
    ("host", "keys", "public"),
    [
        ("127.0.0.1", "", False),
        ("localhost", " , ", False),
        ("127.0.0.1", "a-key-of-24-characters--", True),
        ("0.0.0.0", "a-key-of-24-characters--", True),
    ],
)
def test_a_page_is_public_where_it_is_bound_to_a_public_address_or_asks_for_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, keys: str, public: bool
) -> None:
    monkeypatch.setenv(KEYS, keys)
    given = ["serve", "--host", host, "--backend", "http://127.0.0.1:9/v1", "--data-dir", str(tmp_path)]
    options = parser().parse_args(given)
    parts = build_parts(options, Places.from_options(options))
    with closing(parts.backends):
        assert parts.public is public
