"""Spillgate: one OpenAI-compatible endpoint over many capacity-limited GPU clouds."""

__version__ = "0.1.0"
