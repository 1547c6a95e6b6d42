"""How tests are spread over processes."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("together")
def test_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    """pytest-xdist finds the group in the id of a test, where some versions of pytest do not let it write."""
    assert request.node.nodeid.endswith("@together") == request.config.getoption("loadgroup", False)
