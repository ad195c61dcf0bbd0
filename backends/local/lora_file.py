"""An adapter's file as the fused linears of the base need it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import torch

from backends.contract import AdapterFault, AdapterSource
from backends.local.fused_linear import FusedLinear, Update
from errors import CounterpointError


class Place(NamedTuple):
    """Where a module of the base is computed: at `begin` in the output of a fused linear, (size, in_features)."""

    fused: FusedLinear
    begin: int
    size: int
    in_features: int


Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Each adapted module's A (rank, in) and B (out, rank), with the scaling in B."""


def read(
    source: AdapterSource, places: Mapping[str, Place], dtype: torch.dtype | None, device: torch.device
) -> dict[FusedLinear, Update]:
    """The adapter's weights, in one piece of memory.

    `places` are the base's modules, in its order. Without a `dtype` it is bfloat16 where that keeps every bit, else
    float32. Raises CounterpointError where the file changed since it was checked or does not fit the base, AdapterFault
    where it holds values that are not finite.
    """
    pairs = _pairs(source, places, tensors(source))
    members: dict[FusedLinear, list[str]] = {}
    for name in (name for name in places if name in pairs):
        members.setdefault(places[name].fused, []).append(name)
    pieces = []
    for names in members.values():
        pieces += [torch.cat([pairs[name][0] for name in names]), *(pairs[name][1].t() for name in names)]
    dtype = dtype or _shortest(pairs)
    flat = torch.cat([piece.reshape(-1).to(dtype) for piece in pieces]).to(device)
    if not bool(torch.isfinite(flat).all()):
        raise AdapterFault(
            f"Adapter {source.name} holds values that are not finite: its training diverged. Train it again with "
            "a lower learning rate."
        )
    parts = iter(flat.split([piece.numel() for piece in pieces]))
    updates = {}
    for fused, names in members.items():
        ranks = [pairs[name][0].shape[0] for name in names]
        a = next(parts).view(sum(ranks), -1)
        bs = tuple(next(parts).view(rank, -1) for rank in ranks)
        updates[fused] = Update(a, bs, tuple(places[name].begin for name in names), (0,) * sum(ranks))
    return updates


def tensors(source: AdapterSource) -> dict[str, torch.Tensor]:
    """The file's tensors, from the one reading that is checked, so that the receipt tells what really ran."""
    from safetensors.torch import load

    try:
        data = source.weights.read_bytes()
    except OSError as error:
        raise CounterpointError(f"Adapter {source.name} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise CounterpointError(
            f"Adapter {source.name} changed on disk after it was checked: check it again on the Adapters tab."
        )
    tensors: dict[str, torch.Tensor] = load(data)
    return tensors


def _pairs(source: AdapterSource, places: Mapping[str, Place], tensors: dict[str, torch.Tensor]) -> Pairs:
    pairs = {}
    for module, scaling in source.scaling.items():
        if module not in places:
            raise CounterpointError(f"Adapter {source.name} changes {module}, which this base does not have.")
        a_key, b_key = source.key_names(module)
        try:
            a, b = tensors.pop(a_key), tensors.pop(b_key)
        except KeyError as missing:
            raise CounterpointError(f"Adapter {source.name} lacks the tensor {missing}.") from None
        shape = (places[module].size, places[module].in_features)
        if a.shape != (a.shape[0], shape[1]) or b.shape != (shape[0], a.shape[0]):
            raise CounterpointError(
                f"Adapter {source.name}: {module} has shapes {tuple(a.shape)} and {tuple(b.shape)}, which do not "
                f"fit this base's {shape}."
            )
        pairs[module] = (a, b.float() * scaling)
    if tensors:
        raise CounterpointError(f"Adapter {source.name} holds an unexpected tensor: {next(iter(tensors))}.")
    return pairs


def _shortest(pairs: Pairs) -> torch.dtype:
    """Steps wait for memory, so half of it is faster."""
    exact = all(
        torch.equal(each.to(torch.bfloat16).to(each.dtype), each) for pair in pairs.values() for each in pair
    )
    return torch.bfloat16 if exact else torch.float32
