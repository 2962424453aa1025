"""How many examples property tests try: few by default, so that a run is quick; many in CI, or when asked for.

HYPOTHESIS_PROFILE=thorough make test
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "thorough" if os.environ.get("CI") else "quick"))
