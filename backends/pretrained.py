"""A base model out of its folder as Transformers loads it: whole, and running no code that the folder brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from errors import CounterpointError


class Pretrained(NamedTuple):
    """A causal language model and its tokenizer."""

    model: Any
    tokenizer: Any


def tokenizer(folder: Path) -> Any:
    """The tokenizer of the base in `folder`. Raises CounterpointError where it cannot be loaded or has no template."""
    import transformers
    from transformers import AutoTokenizer

    transformers.logging.set_verbosity_error()
    try:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _cannot_be_loaded(folder, error) from None
    return _with_template(loaded, folder)


def context(config: Any) -> int:
    """Tokens that a base of this configuration reads at once.

    A sliding window counts as its limit, since rows keep everything.
    """
    limits = [config.max_position_embeddings]
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        limits.append(config.sliding_window)
    return int(min(limits))


def context_of(folder: Path) -> int | None:
    """Tokens that the base in `folder` reads at once; None where its configuration does not say."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return context(config.get_text_config())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


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
        raise _cannot_be_loaded(folder, error) from None
    model, found = loaded
    if found["missing_keys"]:
        # Transformers fills in random weights.
        some = ", ".join(sorted(found["missing_keys"])[:3])
        raise CounterpointError(
            f"The base model in {folder} lacks weights ({some}…): fetch or save it again, whole."
        )
    return Pretrained(model, _with_template(tokenizer, folder))


def _cannot_be_loaded(folder: Path, error: Exception) -> CounterpointError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CounterpointError(f"The base model in {folder} cannot be loaded: {first}")


def _with_template(tokenizer: Any, folder: Path) -> Any:
    if tokenizer.chat_template is None:
        raise CounterpointError(
            f"The base model in {folder} has no chat template: pick an instruction-tuned model."
        )
    return tokenizer
