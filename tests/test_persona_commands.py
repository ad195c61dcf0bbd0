"""Personas that travel by the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import Place, objects, refused


def test_a_persona_travels_out_and_home_again(place: Place, tmp_path: Path) -> None:
    data = ["--data-dir", tmp_path / "data"]
    out = tmp_path / "support.Modelfile"
    sent = place.run("export-persona", "support-desk", "--to", "modelfile", "--out", out, "--json", *data,
                     "--base", "llama3.2", "--adapter", place.data / "adapters" / "one")  # fmt: skip
    assert (sent.returncode, sent.stderr) == (0, "")
    [told] = objects(sent.stdout)
    assert list(told) == ["persona", "format", "out", "carried", "left"]
    assert f"\nFROM llama3.2\nADAPTER {place.data / 'adapters' / 'one'}\n" in out.read_text()
    refused(place.run("import-persona", out, *data), "There is a persona support-desk already")
    brought = place.run("import-persona", out, "--name", "other-desk", "--json", *data)
    assert (brought.returncode, brought.stderr) == (0, "")
    [told] = objects(brought.stdout)
    assert list(told) == ["name", "title", "sha256", "carried", "left"]
    assert told["name"] == "other-desk"
    assert (tmp_path / "data" / "personas" / "other-desk.yaml").exists()
    assert place.run("import-persona", out, "--replace", *data).stdout.startswith(
        "persona:support-desk\n  kept  "
    )
    back = tmp_path / "back.yaml"
    assert place.run("export-persona", "other-desk", "--to", "yaml", "--out", back, *data).returncode == 0
    refused(place.run("export-persona", "other-desk", "--to", "yaml", "--out", back, *data), "add --replace")
    again = place.run("export-persona", "other-desk", "--to", "card", "--out", back, "--replace", *data)
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(back.read_text())["spec"] == "chara_card_v2"


def test_what_cannot_travel_is_one_line_that_names_the_mend(place: Place, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"spec": "chara_card_v2", "data": {"name": 1, "description": []}}')
    out = tmp_path / "out"
    for arguments, told, status in (
        (["import-persona", tmp_path / "missing.json"], f"{tmp_path / 'missing.json'}", 2),
        (["import-persona", "missing.json"], "give the path of a file", 2),
        (["import-persona", tmp_path / "bad.json"], "name: must be text", 2),
        (["import-persona", tmp_path / "bad.json"], "description: must be text", 2),
        (["import-persona"], "FILE", 2),
        (["export-persona", "nobody", "--to", "card", "--out", out], "There are: code-explainer", 2),
        (["export-persona", "support-desk", "--to", "pdf", "--out", out], "choose card, card-png", 2),
        (["export-persona", "support-desk", "--to", "card"], "--out", 2),
        (
            ["export-persona", "support-desk", "--to", "card", "--out", tmp_path, "--replace"],
            "exists already",
            2,
        ),
        (["export-persona", "support-desk", "--to", "card", "--out", out / "x"], "another folder", 1),
        (
            ["export-persona", "support-desk", "--to", "card", "--out", out, "--adapter", tmp_path],
            "Modelfile",
            2,
        ),
        (
            ["export-persona", "support-desk", "--to", "modelfile", "--out", out, "--adapter", out],
            "no such folder",
            2,
        ),
    ):
        refused(place.run(*arguments, "--data-dir", tmp_path / "data"), told, status)
    assert not out.exists()
