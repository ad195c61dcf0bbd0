"""The local engine: one quantized base model in a process of its own."""
