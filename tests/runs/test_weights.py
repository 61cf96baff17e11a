"""The files of weights: who can read them, what they say, and that good ones are not replaced by NaN."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gankit.errors import NonFiniteError, NonFiniteWarning
from gankit.presets import ring
from gankit.runs import Recipe, Run
from gankit.runs.weights import write_weights
from gankit.spec import Spec
from gankit.training import Stacked

FILES = ("averaged_generator", "discriminator", "generator")
TINY = ring.replace(
    steps=2,
    batch_size=8,
    learning_rate_decay=False,
    generator=Spec("mlp", widths=(8,)),
    discriminator=Spec("mlp", widths=(8,)),
)


def contents():
    return {name: Path("run", f"{name}.safetensors").read_bytes() for name in FILES}


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_weights_have_the_rights_of_any_new_file_and_say_that_they_are_torchs(umask):
    before = os.umask(umask)
    try:
        write_weights(Path(), {"generator": torch.nn.Linear(2, 1)}, None)
    finally:
        os.umask(before)
    assert Path("generator.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask
    with safe_open("generator.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_run_that_diverges_keeps_the_weights_that_it_had():
    Run("run", Recipe(preset=TINY, device="cpu", checkpoint_every_steps=1)).train(progress=False)
    before = contents()
    preset = TINY.replace(steps=60, generator_optimizer=Spec("sgd", lr=1e30))
    run = Run("run", Recipe(preset=preset, device="cpu", checkpoint_every_steps=1, check_every_steps=60))
    with (
        pytest.warns(NonFiniteWarning, match="weights must be finite to be written, got NaN .*; run keeps those that"),
        pytest.raises(NonFiniteError),
    ):
        run.resume(progress=False, override=True)
    assert contents() == before


def test_a_new_run_that_diverges_writes_no_weights():
    with pytest.warns(NonFiniteWarning, match="got NaN or infinity; none are written"):
        write_weights(Path(), {"generator": broken(torch.nn.Linear(2, 1))}, None)
    assert not Path("generator.safetensors").exists()


def broken(network, index=...):
    with torch.no_grad():
        network.weight[index] = math.nan
    return network


def test_replicas_that_are_finite_are_written_and_the_others_named():
    networks = Stacked([torch.nn.Linear(2, 1) for _ in range(3)])
    with pytest.warns(NonFiniteWarning, match="the weights of replica 1 are written with the others"):
        write_weights(Path(), {"generator": broken(networks, 1)}, 3)
    assert Path("generator.safetensors").exists()


def test_weights_without_any_number_can_be_written():
    write_weights(Path(), {"generator": torch.nn.Embedding(0, 1)}, None)
    assert Path("generator.safetensors").exists()
