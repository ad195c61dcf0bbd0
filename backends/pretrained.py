"""A base model out of its folder as Transformers loads it: whole, and running no code that the folder brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from errors import CounterpointError


class Pretrained(NamedTuple):
    """A causal language model and its tokenizer."""

    model: Any
    tokenizer: Any


def load(folder: Path, **options: Any) -> Pretrained:
    """Loads the base in `folder`; `options` are further ones of AutoModelForCausalLM.from_pretrained.

    Raises CounterpointError where it cannot be loaded, lacks weights or has no chat template.
    """
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CounterpointError(f"The base model in {folder} cannot be loaded: {first}") from None
    model, found = loaded
    if found["missing_keys"]:
        # Transformers fills in random weights.
        some = ", ".join(sorted(found["missing_keys"])[:3])
        raise CounterpointError(
            f"The base model in {folder} lacks weights ({some}…): fetch or save it again, whole."
        )
    if tokenizer.chat_template is None:
        raise CounterpointError(
            f"The base model in {folder} has no chat template: pick an instruction-tuned model."
        )
    return Pretrained(model, tokenizer)
