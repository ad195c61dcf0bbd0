"""A base and an adapter as one model that Transformers loads alone. The part of an export that needs torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

from backends import pretrained
from backends.contract import AdapterSource, BaseFacts
from backends.local import lora_file
from errors import CounterpointError


def save(source: AdapterSource, base: BaseFacts, folder: Path, dtype: str = "float32") -> None:
    """Writes the merged model, its tokenizer and its chat template into `folder`, in `dtype` ("float32", "bfloat16").

    Raises CounterpointError where base or adapter cannot be used, and OSError or SafetensorError.
    """
    loaded = pretrained.load(base.folder, dtype=torch.float32)
    model = merged(loaded.model, source).to(getattr(torch, dtype))
    try:
        model.save_pretrained(folder)
    except ValueError as error:  # Transformers writes no generation_config.json that contradicts itself
        first = (str(error).strip().splitlines() or ["refused"])[0]
        raise CounterpointError(
            f"The base model in {base.folder} cannot be saved again: {first} Mend its generation_config.json."
        ) from None
    loaded.tokenizer.save_pretrained(folder)


def merged(model: Any, source: AdapterSource) -> Any:
    """`model` with W + scaling · B A for each W that the adapter changes (Hu et al. 2021, section 4.1).

    `model` is in float32 and is changed in place. Raises CounterpointError where the adapter does not fit it.
    """
    tensors = lora_file.tensors(source)
    state: dict[str, torch.Tensor] = {}
    ranks, alphas = {}, {}
    for module, scaling in source.scaling.items():
        a, b = (tensors[key] for key in source.key_names(module))
        state |= {
            f"base_model.model.{module}.lora_{side}.weight": part for side, part in (("A", a), ("B", b))
        }
        ranks[module] = a.shape[0]
        alphas[module] = scaling * a.shape[0]
    # What was validated says which modules are meant, and how strongly: the settings' own patterns are not run.
    first = next(iter(ranks))
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=ranks[first],
        lora_alpha=alphas[first],  # type: ignore[arg-type]  # PEFT only divides it
        target_modules=list(ranks),
        rank_pattern=ranks,
        alpha_pattern=alphas,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT uses of Transformers is its own affair
            tuned = get_peft_model(model, config)
        left: Any = set_peft_model_state_dict(tuned, state)
        lacking = [name for name in left.missing_keys if ".lora_" in name]
        if left.unexpected_keys or lacking:
            raise ValueError(f"{[*left.unexpected_keys, *lacking][0]} has no counterpart")
        return tuned.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CounterpointError(
            f"The adapter {source.name} cannot be merged into this base: {first_line}: export it with --to peft."
        ) from None
