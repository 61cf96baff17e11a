"""The first samples of a generator have the mean of the data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import Spec, load
from gankit.architectures import DCGANGenerator, MLPGenerator
from gankit.data import mnist_5k
from gankit.errors import BadArgumentsError, ShapeError
from gankit.presets import ring, vanilla_mnist
from gankit.presets.output_bias import mean_sample, set_output_bias
from gankit.runs import Recipe, Run

SMALL = vanilla_mnist.replace(generator=Spec("mlp", widths=[8], block="linear_relu"), output_bias_from_data=True)


@pytest.mark.parametrize("sample_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_an_input_of_zeros_gives_the_mean_of_each_pixel(sample_range):
    low, high = sample_range
    trainer = SMALL.replace(sample_range=sample_range)(device="cpu")
    found = trainer.generator.network[-2:](torch.zeros(1, 8)).view(1, 28, 28)
    with torch.no_grad():
        trainer.generator.network[-2].weight.zero_()
    found = trainer.sample(1)[0]
    expected = mnist_5k().samples.double().mean(0) / 255 * (high - low) + low
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6 * (high - low))


def test_without_an_activation_the_bias_is_the_mean():
    G = MLPGenerator(2, (2,), widths=[3], output_activation="identity")
    set_output_bias(G, torch.tensor([0.25, -7.0]))
    assert G.network[-1].bias.tolist() == [0.25, -7.0]


def test_each_replica_has_it_and_the_other_weights_are_those_of_the_seed():
    plain = SMALL.replace(output_bias_from_data=False)(device="cpu", replicas=2).generator.state_dict()
    changed = SMALL(device="cpu", replicas=2).generator.state_dict()
    differing = [name for name in plain if not torch.equal(plain[name], changed[name])]
    assert differing == ["network.1.bias"]
    assert torch.equal(changed["network.1.bias"][0], changed["network.1.bias"][1])


def test_a_generator_is_loaded_without_the_data(tmp_path, monkeypatch):
    tiny = SMALL.replace(steps=1, batch_size=8)
    Run(tmp_path / "run", Recipe(preset=tiny, device="cpu")).train(progress=False)
    monkeypatch.setattr("gankit.presets.building.mean_sample", lambda *_: pytest.fail("the data were read"))
    assert load(tmp_path / "run")(torch.zeros(1, 10)).shape == (1, 1, 28, 28)


@pytest.mark.parametrize(
    "generator",
    [
        DCGANGenerator(10, (1, 28, 28), hidden_dim=2),  # one bias for each channel
        nn.Sequential(nn.Linear(10, 784, bias=False)),
        MLPGenerator(10, (2,), widths=[3]),
    ],
    ids=["dcgan", "other", "size"],
)
def test_other_generators_are_refused(generator):
    with pytest.raises(BadArgumentsError, match=f"^output_bias_from_data needs a .* got {type(generator).__name__}$"):
        set_output_bias(generator, torch.zeros(1, 28, 28))


def test_data_that_is_drawn_or_has_another_shape_is_refused():
    with pytest.raises(BadArgumentsError, match=r"^output_bias_from_data needs a data set in memory, got ring$"):
        ring.replace(output_bias_from_data=True)(device="cpu")
    with pytest.raises(ShapeError, match=r"samples of shape \(3, 28, 28\), got \(1, 28, 28\)"):
        mean_sample(Spec("mnist_5k"), (3, 28, 28), (0.0, 1.0))
