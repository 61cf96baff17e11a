"""What the tests of faults share: one fork server."""

from __future__ import annotations

import pytest

from tests.faults.processes import ForkServer


@pytest.fixture(scope="session")
def fork_server():
    """Start the server once for all tests: importing torch takes seconds."""
    server = ForkServer()
    yield server
    server.close()
