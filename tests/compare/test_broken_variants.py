"""The variants that are broken on purpose are broken in the way that they say."""

from __future__ import annotations

import torch

from gankit import Spec
from gankit.cli import main
from gankit.compare import Comparison, Entry, Outcome
from gankit.presets import vanilla_mnist_tuned
from tools.compare_broken_variants import StoppingAdam, arguments, variants


def test_no_updates_are_made_after_the_first_ones():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = StoppingAdam([weight], updates=2, lr=0.1, betas=(0.5, 0.99))
    changed = []
    for _ in range(4):
        before = weight.detach().clone()
        weight.grad = torch.ones(3)
        optimizer.step()
        changed.append(not torch.equal(before, weight))
    assert changed == [True, True, False, False]


def test_each_variant_changes_one_part():
    narrow, stopped = map(Entry.parse, variants(1001))
    full, half = (entry.applied_to(vanilla_mnist_tuned)(device="cpu").generator for entry in (Entry(), narrow))
    assert [layer.out_features for layer in full.modules() if isinstance(layer, torch.nn.Linear)][:-1] == [
        2 * layer.out_features for layer in half.modules() if isinstance(layer, torch.nn.Linear)
    ][:-1]
    # the same optimizer, until it stops
    numbers = vanilla_mnist_tuned.discriminator_optimizer.arguments
    assert stopped.changes == {"discriminator_optimizer": Spec("stopping_adam", updates=500, **numbers)}


def test_they_are_compared_with_the_preset_unchanged(monkeypatch):
    compared: list[list[Entry]] = []

    class Recorded(Comparison):
        def run(self, *callbacks: object) -> list[Outcome]:
            compared.append(self.entries)
            return []

    monkeypatch.setattr("gankit.cli.compare.Comparison", Recorded)
    assert main(arguments(["--seeds", "2", "--steps", "60"])) == 0
    assert compared == [[Entry(), *map(Entry.parse, variants(60))]]
