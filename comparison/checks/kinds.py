"""All kinds of checks by their names. The thresholds that need not be given are promptfoo's."""

from __future__ import annotations

from comparison.checks import outside, plain, scored
from comparison.checks.check import Kind

KINDS: dict[str, Kind] = {
    "equals": Kind(plain.equals, plain.nothing_wrong),
    "contains": Kind(plain.contains, plain.no_text),
    "icontains": Kind(plain.contains, plain.no_text),
    "contains-all": Kind(plain.contains, plain.no_texts),
    "icontains-all": Kind(plain.contains, plain.no_texts),
    "contains-any": Kind(plain.contains, plain.no_texts),
    "icontains-any": Kind(plain.contains, plain.no_texts),
    "starts-with": Kind(plain.starts_with, plain.no_text),
    "regex": Kind(plain.regex, plain.no_pattern),
    "is-json": Kind(plain.is_json, plain.no_schema),
    "contains-json": Kind(plain.contains_json, plain.no_schema),
    "levenshtein": Kind(scored.levenshtein, plain.no_text, threshold=5, takes_threshold=True),
    "rouge-n": Kind(scored.rouge_n, plain.no_text, threshold=0.75, takes_threshold=True, most=1),
    "bleu": Kind(scored.bleu, scored.no_references, threshold=0.5, takes_threshold=True, most=1),
    "similar": Kind(
        scored.similar, scored.no_references, threshold=0.75, takes_threshold=True, most=1, need="embedding"
    ),
    "perplexity": Kind(
        scored.perplexity, scored.no_value, takes_threshold=True, must_have_threshold=True, need="logprobs"
    ),
    "latency": Kind(
        scored.latency, scored.no_value, takes_threshold=True, must_have_threshold=True, need="latency"
    ),
    "cost": Kind(scored.cost, scored.no_value, takes_threshold=True, must_have_threshold=True, need="cost"),
    "python": Kind(outside.python, outside.no_criterion, takes_threshold=True, need="python"),
    "llm-rubric": Kind(outside.llm_rubric, outside.no_criterion, takes_threshold=True, most=1, need="judge"),
}
