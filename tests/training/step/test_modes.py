"""TF32 is on inside its context and nowhere else."""

from __future__ import annotations

import pytest
import torch

from gankit.training.step.modes import tf32


def switches():
    return [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]


def test_tf32_holds_inside_and_is_gone_afterwards():
    before = switches()
    with tf32():
        assert switches() == ["tf32", "tf32"]
    assert switches() == before


def test_tf32_is_gone_after_an_error():
    before = switches()
    with pytest.raises(KeyError), tf32():
        raise KeyError
    assert switches() == before


def test_tf32_inside_tf32_leaves_the_outer_one():
    with tf32():
        with tf32():
            pass
        assert switches() == ["tf32", "tf32"]


def test_a_choice_of_the_users_own_survives_tf32():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        with tf32():
            pass
        assert matmul.fp32_precision == "ieee"
    finally:
        matmul.fp32_precision = before


def test_tf32_leaves_torchs_older_switches_readable():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with tf32():
        pass
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before
    assert torch.get_float32_matmul_precision() == "highest"
