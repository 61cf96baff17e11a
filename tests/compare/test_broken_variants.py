"""The variants that are broken on purpose are broken in the way that they say."""

from __future__ import annotations

import pytest
import torch

from gankit import Spec
from gankit.cli import main
from gankit.compare import Comparison, Entry, Outcome
from gankit.presets import vanilla_mnist
from tools.compare_broken_variants import STEPS, VARIANTS, StoppingAdam, arguments


def test_no_updates_are_made_after_the_first_ones():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = StoppingAdam([weight], updates=2)
    changed = []
    for _ in range(4):
        before = weight.detach().clone()
        weight.grad = torch.ones(3)
        optimizer.step()
        changed.append(not torch.equal(before, weight))
    assert changed == [True, True, False, False]


def test_each_variant_changes_one_part():
    narrow, stopped = map(Entry.parse, VARIANTS)
    full, half = (entry.applied_to(vanilla_mnist)(device="cpu").generator for entry in (Entry(), narrow))
    assert [layer.out_features for layer in full.modules() if isinstance(layer, torch.nn.Linear)][:-1] == [
        2 * layer.out_features for layer in half.modules() if isinstance(layer, torch.nn.Linear)
    ][:-1]
    assert stopped.changes == {"discriminator_optimizer": Spec("stopping_adam", updates=STEPS // 2)}
    assert vanilla_mnist.discriminator_optimizer == Spec("adam", lr=2e-4, betas=(0.5, 0.999))


@pytest.mark.parametrize(("words", "loss"), [([], Entry()), (["--loss", "relativistic"], Entry(loss="relativistic"))])
def test_the_loss_is_that_of_all_three(words, loss, monkeypatch):
    compared: list[list[Entry]] = []

    class Recorded(Comparison):
        def run(self, *callbacks: object) -> list[Outcome]:
            compared.append(self.entries)
            return []

    monkeypatch.setattr("gankit.cli.compare.Comparison", Recorded)
    assert main(arguments([*words, "--seeds", "2"])) == 0
    changes = [Entry.parse(variant).changes for variant in VARIANTS]
    assert compared == [[loss, *(Entry(**{**loss.changes, **one}) for one in changes)]]
