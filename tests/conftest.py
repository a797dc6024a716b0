"""Settings for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# Machines differ: a slow example is no failure. The same examples every time, so that a gate that closes has a reason
# in the change; SPILLGATE_EXPLORE=1 looks for new ones.
settings.register_profile("house", deadline=None, print_blob=True, derandomize=not os.environ.get("SPILLGATE_EXPLORE"))
settings.load_profile("house")
