"""Rows put together as what a model reads at once: packed into one sequence, or padded."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapters.training.encoding import NO_LOSS, Encoded

Batch = dict[str, torch.Tensor]


def pack(rows: Sequence[Encoded]) -> Batch:
    """The rows as one sequence without padding, their common beginning computed once.

    Every row begins with the chat template's own system line, often a third of its tokens. Here it stands
    once; each row's rest follows, sees that beginning and itself, and keeps its own positions: the same
    numbers as row by row, for fewer tokens, where the model `packs`. Returns input_ids, position_ids and labels
    (1, length), and a boolean attention_mask (1, 1, length, length). `labels` are shifted already: the token to predict
    *after* each. `pieces` (1 + rows,) are the lengths of the beginning and of each row's rest.
    """
    # The token that predicts a row's first learned token must be the row's own.
    shared = min(next(i for i, label in enumerate(row.labels) if label != NO_LOSS) - 1 for row in rows)
    first = rows[0].input_ids
    while any(row.input_ids[:shared] != first[:shared] for row in rows):
        shared -= 1
    ids, positions, labels, owners = first[:shared], list(range(shared)), [NO_LOSS] * shared, [-1] * shared
    for owner, row in enumerate(rows):
        rest = range(shared, len(row.input_ids))
        ids += row.input_ids[shared:]
        positions += rest
        labels += [*row.labels[shared + 1 :], NO_LOSS]
        owners += [owner] * len(rest)
    owner_of = torch.tensor(owners)
    own = owner_of[:, None] == owner_of[None, :]
    mask = (own | (owner_of == -1)[None, :]).tril()
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": mask[None, None],
        "labels": torch.tensor([labels]),
        "pieces": torch.tensor([shared, *(len(row.input_ids) - shared for row in rows)]),
    }


def pad(rows: Sequence[Encoded]) -> Batch:
    """The rows one below the other, padded on the right to the longest, as every causal model reads them.

    Returns input_ids, position_ids, labels, shifted as in `pack`, and an attention_mask of what is no padding, all
    (rows, longest).
    """
    longest = max(len(row.input_ids) for row in rows)

    def even(values: list[int], padding: int) -> list[int]:
        return values + [padding] * (longest - len(values))

    return {
        "input_ids": torch.tensor([even(row.input_ids, 0) for row in rows]),
        "position_ids": torch.arange(longest).expand(len(rows), longest).contiguous(),
        "attention_mask": torch.tensor([even([1] * len(row.input_ids), 0) for row in rows]),
        "labels": torch.tensor([even([*row.labels[1:], NO_LOSS], NO_LOSS) for row in rows]),
    }


def put_together(rows: Sequence[Encoded], packing: bool) -> Batch:
    return pack(rows) if packing else pad(rows)
