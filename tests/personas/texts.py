"""Persona texts that the tests of this room share."""

MINIMAL = """\
name: tester
title: Tester
description: A persona for tests.
role: You test.
instructions: [Be brief.]
"""

FULL = """\
name: full
title: Everything
description: Uses every field.
language: fr
tags: [one, two]
role: You help {{who}}.
instructions:
  - Answer {{who}}.
  - "{{7*7}} stays, {single} too."
context: |
  First line.

  Third line of {{topic}}.
constraints: [No lies.]
style: Plain.
examples:
  - user: What is {{topic}}?
    assistant: '{"topic": "{{topic}}", "inner": {"a": {"b": 1}}}'
variables:
  who: {description: Whom, default: you}
  topic: {description: What, default: tea, choices: [tea, coffee, "1e5", "no"]}
sampling:
  {temperature: 0.3, top_p: 0.9, top_k: 40, min_p: 0.05, repetition_penalty: 1.1,
   max_tokens: 90, stop: ["\\n", "4."]}
greeting: Hello {{who}}.
questions: ["Why?", "How?"]
"""

STEPS = """\
steps:
  - {name: outline, prompt: "Outline for {{who}}: {{question}}", max_tokens: 20}
  - {name: draft, prompt: "Draft of {{outline}}"}
  - {name: polish, prompt: "{{question}} / {{outline}} / {{ draft }} / {{7*7}}"}
"""
