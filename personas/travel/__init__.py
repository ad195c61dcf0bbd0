"""Personas as other programs write them: character cards, text-generation-webui's YAML, Ollama's Modelfiles.

Pure functions from bytes to a persona and back. What cannot come along is told, never dropped in silence.
"""
