"""Closing the backend ends its process, and quietly."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.contract import Delta, Failed, Request, Sampling
from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from errors import CounterpointError


@pytest.mark.parametrize("moment", ["loading", "idle", "answering"])
def test_a_closed_backend_ends_its_engine_without_killing_it(
    tiny_base: Path, tmp_path: Path, moment: str, capfd: pytest.CaptureFixture[str]
) -> None:
    backend = LocalBackend(Options(str(tiny_base), "none", "auto", tmp_path), lambda name: pytest.fail(name))
    request = Request("r", ({"role": "user", "content": "Why?"},), Sampling(repetition_penalty=0.5))
    stream = backend.stream([request])
    if moment != "loading":
        backend.wait()
    if moment == "answering":
        assert isinstance(next(stream), Delta)
    backend.close()
    assert backend._process.exitcode == 0
    if moment == "answering":
        assert [type(event) for event in stream][-1] is Failed, "who still reads is told, and does not wait"
    assert not backend._listener.is_alive()
    with pytest.raises(CounterpointError):
        list(backend.stream([request]))
    assert capfd.readouterr().err == ""
