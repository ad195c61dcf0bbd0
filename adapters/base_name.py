"""Does the base that an adapter names agree with the base in memory?

Other tools write a Hub id, an alias of one (Unsloth's "-bnb-4bit" copies), or a path of somebody's machine.
Names prove nothing, so the answer is one of three: the same name, plainly another model, or cannot tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from backends.contract import BaseFacts

Verdict = Literal["same", "unknown", "other"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FAMILIES = _words(
    """
    tinyllama codellama mobilellama openllama codegemma recurrentgemma codeqwen smollm smolvlm llama qwen qwq
    mixtral ministral mistral gemma phi deepseek falcon gptneox gpt distilgpt pythia opt bloomz bloom mpt
    olmoe olmo chatglm glm internlm baichuan granite stablelm starcoder yi zephyr vicuna openchat orca exaone
    minicpm minimax command aya rwkv mamba jamba danube nemotron solar lfm hunyuan ernie kimi t5 flan bert
    """
)
# Last parts of paths that say nothing about the model in them.
GENERIC = _words("base model models merged output outputs final checkpoint snapshot lora")
# First parts that make "first/second" a relative path and no Hub id.
FOLDERS = GENERIC | _words(
    """
    ckpt ckpts checkpoints data home root tmp mnt workspace content cache saves weights llm llms pretrained
    hub snapshots local src app kaggle out
    """
)
# Words that tell how a copy is stored, and nothing of what it is.
STORAGE = _words(
    """
    unsloth bnb 4bit 8bit gptq awq gguf int4 int8 fp8 fp16 bf16 fp32 nf4 hf dynamic mlx quantized
    bitsandbytes meta
    """
)
# Words that models of any family have in their names.
COMMON = _words("instruct chat base it sft dpo preview mini small medium large")
SIZE = re.compile(r"(?:(\d{1,3})x)?(\d{1,5}(?:\.\d{1,3})?)([mb])")
VERSION = re.compile(r"v?(\d{1,3}(?:\.\d{1,3})*)")


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a model's name tells. `size` is in millions of parameters; None is what it does not tell."""

    words: tuple[str, ...]
    family: str | None
    version: str | None
    size: float | None
    is_hub_id: bool

    @property
    def known(self) -> bool:
        """True where the name says something that another name can contradict."""
        return self.family is not None or self.size is not None


def parse_name(text: str) -> ModelName:
    """Reads a Hub id ("org/Name-2-7B"), a bare name, or a path, the Hub's cache folders among them."""
    parts = [part for part in re.split(r"[/\\]+", text.strip()[:512]) if part not in ("", ".")]
    is_path = bool(re.match(r"[/\\~.]|[A-Za-z]:[/\\]", text.strip()))
    is_hub_id = not is_path and len(parts) == 2 and parts[0].lower() not in FOLDERS
    for part in parts:
        if part.startswith("models--"):
            parts = part.split("--")[1:]
            is_hub_id = len(parts) == 2
            break
    last = parts[-1].lower() if parts else ""
    words = tuple(
        word.strip(".")
        for word in re.split(r"[^a-z0-9.]+", last)
        if word.strip(".") and word.strip(".") not in STORAGE
    )
    if not words or words[0] in GENERIC or re.fullmatch(r"[0-9a-f]{40}", last):
        return ModelName((), None, None, None, False)
    family, version = _family(words)
    sizes = [_millions(found) for word in words if (found := SIZE.fullmatch(word))]
    return ModelName(words, family, version, sizes[0] if sizes else None, is_hub_id)


def compare(named: str, base: BaseFacts) -> Verdict:
    """Whether `named`, the adapter's base_model_name_or_path, is the base in memory, by name alone."""
    if named.strip() in (base.id, str(base.folder)):
        return "same"
    theirs, ours = parse_name(named), parse_name(base.id)
    if not theirs.words or not ours.words:
        return "unknown"
    if theirs.words == ours.words:
        return "same"
    if _contradict(theirs, ours):
        return "other"
    if theirs.is_hub_id and (ours.is_hub_id or ours.known):
        # A Hub id means one model: "smollm" is no "smollm2", and one with no word of our base's is another.
        other_version = theirs.family and theirs.family == ours.family and theirs.version != ours.version
        common = set(theirs.words) & set(ours.words) - COMMON
        return "other" if other_version or not common else "unknown"
    return "unknown"


def _contradict(one: ModelName, two: ModelName) -> bool:
    if one.family and two.family and one.family != two.family:
        return True
    if one.version and two.version and one.family and one.version != two.version:
        return True
    if one.size and two.size:
        return max(one.size, two.size) > 1.1 * min(one.size, two.size)
    return False


def _family(words: tuple[str, ...]) -> tuple[str | None, str | None]:
    """The family and its version: "llama3.2", "llama-3.2" and "mistral-…-v0.3" all tell both."""
    for place, word in enumerate(words):
        for family in FAMILIES:
            rest = word.removeprefix(family)
            if rest == word or (rest and not VERSION.fullmatch(rest)):
                continue
            following = words[place + 1] if place + 1 < len(words) else ""
            marked = [word for word in words if word.startswith("v")]
            for candidate in (rest, following, *marked):
                if found := VERSION.fullmatch(candidate):
                    return family, found[1]
            return family, None
    return None, None


def _millions(size: re.Match[str]) -> float:
    experts, number, unit = size.groups()
    return float(number) * (1000 if unit == "b" else 1) * int(experts or 1)
