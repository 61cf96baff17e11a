"""Sets variables before torch is imported. They hold for the tests only: benchmarks measure with the defaults."""

import os

# OpenMP's threads spin while they wait, which stalls everything where other programs use the cores too
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# the suite occupies the cores with processes, and the tests' networks are too small for several threads
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(autouse=True)
def _digits_are_not_scored(request, monkeypatch):
    """Leave out the scores of digits, which take seconds, except in the pages, which show them."""
    if request.path.name != "test_docs.py":
        monkeypatch.setattr("gankit.runs.evaluation.digits_evaluator", lambda preset, root: None)
