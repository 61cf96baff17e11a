"""Runs without pictures, where they are not looked at."""

from __future__ import annotations

import pytest

from gankit.runs import Run


@pytest.fixture(autouse=True)
def _without_curves(request, monkeypatch):
    """Leave out what takes most of the time of so short a run, where it is not looked at."""
    if "holds_what" not in request.node.name and "without_a_checkpoint" not in request.node.name:
        monkeypatch.setattr(Run, "_pictures", lambda self, batches: None)
        monkeypatch.setattr(Run, "_draw_curves", lambda self: None)
