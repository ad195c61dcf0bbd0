"""When a gate is passed: what an adapter should gain must be shown, and so must harm."""

from __future__ import annotations

import pytest

from adapters.verdict import Figure, Finding, Gate, Part, judge


def figure(low: float | None, high: float | None) -> Figure:
    return Figure(value=0.5, low=low, high=high, n=9)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.9, "passed"),
        (0.1, 1.0, "passed"),
        (0.9, 1.1, "unclear"),
        (1.1, 1.2, "failed"),
        (None, None, "unclear"),
    ],
)
def test_a_figure_that_may_be_at_most_its_mark(low: float | None, high: float | None, verdict: str) -> None:
    assert judge("bias", figure(low, high), 1.0, {}).verdict == verdict


def test_a_loss_that_is_the_bases_is_no_gain() -> None:
    same = judge("loss", Figure(value=1.0, low=1.0, high=1.0, n=9), 1.0, {})
    assert same.verdict == "unclear"
    assert not Gate(findings=(same,), omitted={}, seconds=1).passed


def test_a_gate_without_a_loss_is_not_passed() -> None:
    assert not Gate(findings=(), omitted={}, seconds=1).passed


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.6, 0.9, "passed"),
        (0.5, 0.9, "passed"),
        (0.4, 0.6, "unclear"),
        (0.1, 0.4, "failed"),
        (None, None, "unclear"),
    ],
)
def test_a_figure_that_must_be_at_least_its_mark(low: float | None, high: float | None, verdict: str) -> None:
    assert judge("checks", figure(low, high), 0.5, {}, least=True).verdict == verdict


def finding(part: Part, low: float, high: float) -> Finding:
    return judge(part, figure(low, high), 1.0, {})


@pytest.mark.parametrize(
    ("findings", "failed"),
    [
        ((finding("loss", 0.1, 0.2), finding("bias", 0.9, 1.1)), ()),
        ((finding("loss", 0.1, 0.2), finding("bias", 1.1, 1.2)), ("bias",)),
        ((finding("loss", 0.9, 1.1), finding("bias", 0.1, 0.2)), ("loss",)),
        ((finding("loss", 1.1, 1.2), finding("bias", 1.1, 1.2)), ("loss", "bias")),
    ],
)
def test_a_lower_loss_has_to_be_shown_and_harm_too(
    findings: tuple[Finding, ...], failed: tuple[Part, ...]
) -> None:
    gate = Gate(findings=findings, omitted={}, seconds=1.0)
    assert (gate.failed, gate.passed) == (failed, not failed)
