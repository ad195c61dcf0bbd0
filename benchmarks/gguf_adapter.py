"""A LoRA adapter of a Llama base as the GGUF file that llama.cpp loads.

python benchmarks/gguf_adapter.py adapters/library/support support.gguf [--base FOLDER]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""PEFT's names of a layer's linears, and GGUF's."""
_TENSOR = re.compile(r".*\.layers\.(\d+)\.(.+)\.lora_([AB])\.weight")


def write(adapter: Path, base: Path, out: Path) -> None:
    """Writes the PEFT folder `adapter`, for the base in the folder `base`, to `out` in float32.

    Queries and keys are in another order in GGUF (llama.cpp, convert_hf_to_gguf.py, `LlamaModel.permute`): within a
    head the two halves that a rotation turns together lie side by side. Raises ValueError for a tensor with no place.
    """
    import gguf
    from safetensors.torch import load_file

    settings = json.loads((adapter / "adapter_config.json").read_text())
    config = json.loads((base / "config.json").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(settings["lora_alpha"]))
    for name, tensor in sorted(load_file(adapter / "adapter_model.safetensors").items()):
        found = _TENSOR.fullmatch(name)
        if not found or found[2] not in LINEARS:
            raise ValueError(f"{adapter}: {name} has no place in a GGUF adapter")
        layer, linear, side = found[1], LINEARS[found[2]], found[3]
        values: Any = tensor.float().numpy()
        if side == "B" and linear in heads:
            rows, rank = values.shape
            halves = values.reshape(heads[linear], 2, rows // heads[linear] // 2, rank)
            values = halves.swapaxes(1, 2).reshape(rows, rank)
        writer.add_tensor(f"blk.{layer}.{linear}.weight.lora_{side.lower()}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    from backends.local.fetch import cache_folder, locate

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("adapter", type=Path, metavar="FOLDER", help="a PEFT folder")
    options.add_argument("out", type=Path, metavar="FILE", help="the new GGUF file")
    options.add_argument("--base", default="embedded", metavar="ID_OR_FOLDER", help="what it was trained on")
    given = options.parse_args()
    write(given.adapter, locate(given.base, cache_folder()).folder, given.out)


if __name__ == "__main__":
    main()
