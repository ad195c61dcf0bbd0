"""What computes an answer. Knows no Gradio, no persona and no files of ours."""

import logging

# On a processor with AVX512-BF16 bitsandbytes warns, when anything first imports it (PEFT does), of a kernel of the Hub
# that it can do without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
