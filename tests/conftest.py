"""What all tests share: the mark of those that start real processes, and what only runs when it is asked for.

Property tests try few examples by default, so that a run is quick; many in CI, or when asked for:

    HYPOTHESIS_PROFILE=thorough make test

`--soak` runs the scenario that takes a minute; CI does, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.jsonrpc.certificates import Certificates, make_certificates

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "thorough" if os.environ.get("CI") else "quick"))

SCENARIOS = Path(__file__).parent / "scenarios"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the soak of a minute, too (tests/scenarios/test_soak.py)")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for tests of TLS; the files must not be changed."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SCENARIOS in item.path.parents:
            item.add_marker(pytest.mark.scenario)
