"""The multilayer perceptrons are the lecture's, to the last bit."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from gankit.architectures import MLPDiscriminator, MLPGenerator, load_lecture_state_dict
from gankit.errors import BadArgumentsError, BadValueError

SHAPE = (1, 28, 28)
LATENT_DIM = 6
ODD_BATCH = 3


# --- the lecture's classes, written by hand --------------------------------------------------------------


def generator_block(input_dim, output_dim):
    return nn.Sequential(nn.Linear(input_dim, output_dim), nn.BatchNorm1d(output_dim), nn.ReLU(inplace=True))


def discriminator_block(input_dim, output_dim):
    return nn.Sequential(nn.Linear(input_dim, output_dim), nn.LeakyReLU(0.2))


class Generator(nn.Module):
    def __init__(self, z_dim=10, im_dim=784, hidden_dim=128):
        super().__init__()
        self.gen = nn.Sequential(
            generator_block(z_dim, hidden_dim),
            generator_block(hidden_dim, hidden_dim * 2),
            generator_block(hidden_dim * 2, hidden_dim * 4),
            generator_block(hidden_dim * 4, hidden_dim * 8),
            nn.Linear(hidden_dim * 8, im_dim),
            nn.Sigmoid(),
        )

    def forward(self, noise):
        return self.gen(noise)

    def get_gen(self):
        return self.gen


class Discriminator(nn.Module):
    def __init__(self, im_dim=784, hidden_dim=128):
        super().__init__()
        self.disc = nn.Sequential(
            discriminator_block(im_dim, hidden_dim * 4),
            discriminator_block(hidden_dim * 4, hidden_dim * 2),
            discriminator_block(hidden_dim * 2, hidden_dim),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, image):
        return self.disc(image)

    def get_disc(self):
        return self.disc


def moved(network, inputs):
    """The network after some steps, so that every weight and every running statistic has changed."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        network(inputs).square().mean().backward()
        optimizer.step()
    return network


def test_the_lectures_generator_and_ours_give_the_same_bits():
    theirs = moved(Generator(), torch.randn(16, 10))
    ours = MLPGenerator(10, SHAPE)
    load_lecture_state_dict(ours, theirs.state_dict())
    z = torch.randn(7, 10)
    assert torch.equal(ours(z), theirs(z).view(7, *SHAPE))  # in train mode, which moves the running statistics
    theirs.eval()
    ours.eval()
    assert torch.equal(ours(z), theirs(z).view(7, *SHAPE))
    for key, value in theirs.get_gen().state_dict().items():
        assert torch.equal(ours.network.state_dict()[key], value)


def test_the_lectures_discriminator_and_ours_give_the_same_bits():
    theirs = moved(Discriminator(), torch.rand(16, 784))
    ours = MLPDiscriminator(SHAPE)
    load_lecture_state_dict(ours, theirs.state_dict())
    x = torch.rand(7, *SHAPE)
    for train in (True, False):
        theirs.train(train)
        ours.train(train)
        assert torch.equal(ours(x), theirs(x.view(7, -1)).squeeze(1))
    assert theirs.get_disc().state_dict().keys() == ours.network.state_dict().keys()


def test_the_gradients_are_the_lectures_too():
    theirs = Discriminator()
    ours = MLPDiscriminator(SHAPE)
    load_lecture_state_dict(ours, theirs.state_dict())
    x = torch.rand(7, *SHAPE)
    theirs(x.view(7, -1)).mean().backward()
    ours(x).mean().backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_the_weights_are_copied_and_not_shared():
    theirs = Discriminator()
    ours = MLPDiscriminator(SHAPE)
    load_lecture_state_dict(ours, theirs.state_dict())
    x = torch.rand(7, *SHAPE)
    before = ours(x)
    moved(theirs, x.view(7, -1))
    assert torch.equal(ours(x), before)


GENERATED, DISCRIMINATED = Generator().state_dict(), Discriminator().state_dict()


@pytest.mark.parametrize(
    ("network", "state", "says"),
    [
        (MLPGenerator(10, SHAPE), DISCRIMINATED, "called gen.*, got 'gen.0.0.bias' and 29 others missing"),
        (MLPGenerator(10, SHAPE), DISCRIMINATED, "'disc.0.0.bias' and 7 others superfluous"),
        (MLPGenerator(10, SHAPE), DISCRIMINATED, "that an MLPDiscriminator takes"),
        (MLPDiscriminator(SHAPE), GENERATED, "that an MLPGenerator takes"),
        (MLPDiscriminator(SHAPE), Discriminator().disc.state_dict(), "write 'disc.' before each name"),
        (MLPGenerator(10, SHAPE), {f"module.{k}": v for k, v in GENERATED.items()}, "remove 'module.' at the begin"),
        (MLPGenerator(10, SHAPE), MLPGenerator(10, SHAPE).state_dict(), "gankit's own, for load_state_dict"),
        (MLPGenerator(10, SHAPE), {"epoch": 3, "generator": GENERATED}, "probably the entry 'generator'"),
        (MLPGenerator(10, SHAPE), GENERATED | {"gen.9.weight": torch.zeros(1)}, "'gen.9.weight' superfluous"),
        (MLPGenerator(10, SHAPE, depth=3), GENERATED, "another number of layers"),
        (MLPGenerator(10, SHAPE), {**GENERATED, "gen.0.0.weight": 3}, "gen.0.0.weight must be a tensor, got int"),
        (MLPGenerator(10, SHAPE), {3: torch.zeros(1)}, "must have names as keys, got 3"),
        (MLPDiscriminator(SHAPE), {}, "'disc.0.0.bias' and 7 others missing and none superfluous"),
        (MLPDiscriminator(SHAPE), Discriminator(), "a mapping of names to weights, got a Discriminator; give its .st"),
        (MLPDiscriminator(SHAPE), [1], "a mapping of names to weights, got a list"),
    ],
)
def test_names_that_do_not_fit_are_refused_with_what_was_probably_meant(network, state, says):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(BadArgumentsError) as refusal:
        load_lecture_state_dict(network, state)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "state", "key"),
    [
        (MLPGenerator(20, SHAPE), Generator().state_dict(), "0.0.weight"),
        (MLPGenerator(10, (2,)), Generator().state_dict(), "4.weight"),
        (MLPDiscriminator(SHAPE, hidden_dim=64), Discriminator().state_dict(), "0.0.weight"),
    ],
    ids=["latents", "samples", "width"],
)
def test_weights_of_another_size_are_refused(network, state, key):
    with pytest.raises(BadArgumentsError, match=f"do not fit the {type(network).__name__}: ") as refusal:
        load_lecture_state_dict(network, state)
    assert key in str(refusal.value)
    assert "\n" not in str(refusal.value)


# --- sizes -----------------------------------------------------------------------------------------------


def chain(network):
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]


def test_the_default_sizes_are_the_lectures():
    G, D = MLPGenerator(10, SHAPE), MLPDiscriminator(SHAPE)
    assert chain(G) == [(10, 128), (128, 256), (256, 512), (512, 1024), (1024, 784)]
    assert chain(D) == [(784, 512), (512, 256), (256, 128), (128, 1)]
    assert sum(parameter.numel() for parameter in G.parameters()) == 1_498_768
    assert sum(parameter.numel() for parameter in D.parameters()) == 566_273


@pytest.mark.parametrize(
    ("arguments", "widths"),
    [
        ({"hidden_dim": 4}, [4, 8, 16, 32]),
        ({"hidden_dim": 4, "depth": 2}, [4, 8]),
        ({"depth": 1}, [128]),
        ({"widths": (7, 5, 3)}, [7, 5, 3]),
        ({"widths": [9], "hidden_dim": 4, "depth": 2}, [9]),
    ],
    ids=str,
)
def test_the_generators_widths_follow_its_arguments(arguments, widths):
    assert chain(MLPGenerator(10, (2,), **arguments)) == list(itertools.pairwise([10, *widths, 2]))


@pytest.mark.parametrize(
    ("arguments", "widths"),
    [
        ({"hidden_dim": 4}, [16, 8, 4]),
        ({"hidden_dim": 4, "depth": 2}, [8, 4]),
        ({"depth": 1}, [128]),
        ({"widths": (3, 5, 7)}, [3, 5, 7]),
        ({"widths": [9], "hidden_dim": 4, "depth": 2}, [9]),
    ],
    ids=str,
)
def test_the_discriminators_widths_follow_its_arguments(arguments, widths):
    assert chain(MLPDiscriminator((2,), **arguments)) == list(itertools.pairwise([2, *widths, 1]))


def test_classes_widen_the_first_layer_alone():
    assert chain(MLPGenerator(10, (2,), widths=(5,), num_classes=3)) == [(13, 5), (5, 2)]
    assert chain(MLPDiscriminator((2,), widths=(5,), num_classes=3)) == [(5, 5), (5, 1)]


@pytest.mark.parametrize(
    "network", [lambda **a: MLPGenerator(10, SHAPE, **a), lambda **a: MLPDiscriminator(SHAPE, **a)]
)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be above 0, got 0"),
        ({"depth": 0}, "depth must be above 0, got 0"),
        ({"widths": ()}, "widths must be one or more positive numbers, got ()"),
        ({"widths": [8, 0]}, "widths must be one or more positive numbers, got (8, 0)"),
    ],
    ids=str,
)
def test_impossible_widths_are_refused(network, arguments, sentence):
    with pytest.raises(BadValueError) as refusal:
        network(**arguments)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("shape", [(2,), (5, 3), (2, 3, 4, 5)])
def test_mlp_takes_samples_of_any_shape(shape):
    samples = MLPGenerator(LATENT_DIM, shape, hidden_dim=4)(torch.randn(ODD_BATCH, LATENT_DIM))
    assert samples.shape == (ODD_BATCH, *shape)
    assert MLPDiscriminator(shape, hidden_dim=4)(samples).shape == (ODD_BATCH,)


# --- initial range and dropout ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build", [lambda **a: MLPGenerator(10, SHAPE, block="linear_relu", **a), lambda **a: MLPDiscriminator(SHAPE, **a)]
)
def test_the_initial_range_bounds_the_weights_of_every_layer(build):
    for layer in build(widths=[50, 40], initial_range=0.05).modules():
        if isinstance(layer, nn.Linear):
            assert 0.045 < layer.weight.max() < 0.05
            assert -0.05 <= layer.weight.min() < -0.045
            assert not layer.bias.any()
    with pytest.raises(BadValueError, match=r"^initial_range must be above 0, got 0.0$"):
        build(initial_range=0.0)


def test_dropout_is_before_each_layer_and_scales_what_is_kept():
    D = MLPDiscriminator(SHAPE, widths=[7, 5], block="maxout", input_dropout=0.2, dropout=0.5)
    names = ["Dropout", "Maxout", "Dropout", "Maxout", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in D.network] == names
    assert [layer.p for layer in D.network if isinstance(layer, nn.Dropout)] == [0.2, 0.5, 0.5]
    kept = D.network[0](torch.ones(10_000))
    assert kept.unique().tolist() == [0.0, 1.25]  # the paper's scale, 1 / 0.8
    assert float(kept.mean()) == pytest.approx(1, abs=0.03)


def test_without_dropout_the_layers_keep_their_names():
    plain, zero = MLPDiscriminator(SHAPE), MLPDiscriminator(SHAPE, input_dropout=0.0, dropout=0.0)
    assert plain.state_dict().keys() == zero.state_dict().keys()
    assert not any(isinstance(layer, nn.Dropout) for layer in zero.modules())


@pytest.mark.parametrize("name", ["input_dropout", "dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_an_impossible_dropout_is_refused(name, value):
    with pytest.raises(BadValueError, match=rf"^{name} must be a probability in \[0, 1\), got {value}$"):
        MLPDiscriminator(SHAPE, **{name: value})
