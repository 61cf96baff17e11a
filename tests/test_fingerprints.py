"""Fingerprints of data: equal for equal data, and bounded in what they read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gankit import fingerprints
from gankit.fingerprints import data_fingerprint, files_fingerprint, tensors_fingerprint


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.0),
        torch.empty(0, 2),
        torch.ones(3, dtype=torch.bool),
        torch.ones(3, 2, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex64),
        torch.rand(4, 4, requires_grad=True).t(),
        torch.ones(2, 2).to_sparse(),
    ],
)
def test_any_tensor_has_a_fingerprint(tensor):
    assert tensors_fingerprint([tensor]) == tensors_fingerprint([tensor.clone()])


def test_of_a_large_tensor_evenly_spaced_rows_are_read(monkeypatch):
    monkeypatch.setattr(fingerprints, "_MOST_BYTES", 64)
    rows = torch.zeros(64, 4, dtype=torch.uint8)
    before = tensors_fingerprint([rows])
    rows[63] = 1  # every fourth is read
    assert tensors_fingerprint([rows]) == before
    rows[60] = 1
    assert tensors_fingerprint([rows]) != before


def test_files_may_be_moved_together_and_may_vanish(monkeypatch):
    def written(folder):
        files = [Path(folder, name) for name in ("a", "b", "c")]
        files[0].parent.mkdir()
        for file in files:
            file.write_text("x")
        return files

    files = written("here")
    before = files_fingerprint(files)
    Path("here").rename("there")
    assert files_fingerprint([Path("there") / file.name for file in files]) == before
    assert files_fingerprint(files)["sizes and times of the files"] != before["sizes and times of the files"]
    monkeypatch.setattr(fingerprints, "_MOST_FILES", 2)
    assert files_fingerprint([])["number of files"] == 0


@pytest.mark.parametrize("source", [iter([1]), object(), [None], ["a", "b"]])
def test_what_is_not_known_has_none(source):
    assert "content" not in data_fingerprint(source)
