"""The variants that are broken on purpose are broken in the way that they say."""

from __future__ import annotations

import pytest
import torch

from gankit import Spec
from gankit.compare import Entry
from gankit.presets import vanilla_mnist
from tools.compare_broken_variants import PausingAdam, variants


@pytest.mark.parametrize(
    ("options", "updated"),
    [({}, [1, 2, 3, 4, 5]), ({"every": 2}, [2, 4]), ({"until": 3}, [1, 2, 3]), ({"every": 2, "until": 3}, [2])],
)
def test_updates_that_are_left_out_change_nothing(options, updated):
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = PausingAdam([weight], **options)
    changed = []
    for step in range(1, 6):
        before = weight.detach().clone()
        weight.grad = torch.ones(3)
        optimizer.step()
        if not torch.equal(before, weight):
            changed.append(step)
    assert changed == updated


def test_each_variant_changes_one_part():
    narrow, rare, stopped = map(Entry.parse, variants(1000))
    full, half = (entry.applied_to(vanilla_mnist)(device="cpu").generator for entry in (Entry(), narrow))
    assert [layer.out_features for layer in full.modules() if isinstance(layer, torch.nn.Linear)][:-1] == [
        2 * layer.out_features for layer in half.modules() if isinstance(layer, torch.nn.Linear)
    ][:-1]
    assert rare.changes == {"discriminator_optimizer": Spec("pausing_adam", every=2)}
    assert stopped.changes == {"discriminator_optimizer": Spec("pausing_adam", until=500)}
    assert vanilla_mnist.discriminator_optimizer == Spec("adam", lr=2e-4, betas=(0.5, 0.999))
