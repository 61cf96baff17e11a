"""Ways to run compiled halves."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def traced_only(monkeypatch):
    """Run the traced graph without Inductor, which takes many seconds per half."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


@pytest.fixture(params=["graph", pytest.param("inductor", marks=pytest.mark.slow)])
def compiler(request):
    if request.param == "graph":
        request.getfixturevalue("traced_only")
    return request.param
