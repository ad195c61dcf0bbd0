"""Three ways to begin: what a recipe leaves out, a preset that it names fills in.

The smaller the learning rate, the more passes it takes; patience ends them when the held-out loss no longer falls.
"""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal["quick", "balanced", "thorough"]

PRESETS: dict[str, dict[str, Any]] = {
    # A first look, in a minute or a few: do these rows teach anything at all?
    "quick": {
        "rank": 8,
        "alpha": 16,
        "learning_rate": 2e-3,
        "passes": 4,
        "max_steps": 60,
        "evaluate_every": 10,
        "checkpoint_every": 20,
    },
    # What to use unless there is a reason for something else.
    "balanced": {
        "rank": 8,
        "alpha": 16,
        "learning_rate": 1e-3,
        "passes": 8,
        "evaluate_every": 20,
        "patience": 3,
        "checkpoint_every": 20,
    },
    # Twice the room to learn, slower and longer, until the held-out loss no longer falls.
    "thorough": {
        "rank": 16,
        "alpha": 32,
        "learning_rate": 5e-4,
        "dropout": 0.05,
        "passes": 20,
        "evaluate_every": 20,
        "patience": 5,
        "checkpoint_every": 20,
    },
}
