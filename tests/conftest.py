"""Settings for every test."""

from __future__ import annotations

from hypothesis import settings

# Machines differ: a slow example is no failure. CI repeats the same examples; a person's runs explore.
settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")
