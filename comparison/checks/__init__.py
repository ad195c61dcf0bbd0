"""Checks on an answer, under promptfoo's names and with their meaning."""
