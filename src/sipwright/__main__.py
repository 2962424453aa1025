"""`python -m sipwright`: the same as the `sipwright` command."""

from __future__ import annotations

import sys

from sipwright.cli.main import main

sys.exit(main())
