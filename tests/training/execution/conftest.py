"""Ways to run compiled halves."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def compiler(request):
    if request.param == "graph":
        request.getfixturevalue("traced_only")
    return request.param
