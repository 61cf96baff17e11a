from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch import nn

from gankit import DISCRIMINATORS, GENERATORS, LOSSES, PRESETS, LossSchedule, Preset, Spec
from gankit.architectures import MLPDiscriminator, MLPGenerator
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataError,
    DeviceError,
    ShapeError,
    UnknownNameError,
)
from gankit.losses import Hinge, Minimax
from gankit.presets import dcgan_mnist, vanilla_mnist
from gankit.regularizers import R1

EVERY = pytest.mark.parametrize("name", PRESETS.names())


def train(preset: Preset, steps: int = 2, **overrides):
    small = preset.replace(batch_size=16)
    return small(device="cpu", **overrides).fit(small.batches(device="cpu"), steps=steps)


class Shapeless:
    def __call__(self, count, *, generator, device):
        return torch.zeros(count, 3)


# --- every preset ----------------------------------------------------------------------------------------


@EVERY
def test_it_goes_through_json_and_comes_back_equal(name):
    preset = PRESETS.get(name)
    assert isinstance(preset, Preset)
    assert Preset.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


@EVERY
def test_it_trains_and_samples_in_its_range(name):
    preset = PRESETS.get(name)
    images = train(preset).sample(3)
    assert images.shape == (3, *preset.sample_shape)
    low, high = preset.sample_range or (-torch.inf, torch.inf)
    assert low <= images.min()
    assert images.max() <= high


@EVERY
def test_its_batches_have_its_shape_and_its_range(name):
    preset = PRESETS.get(name)
    real = next(iter(preset.batches(device="cpu")))
    assert real.shape == (preset.batch_size, *preset.sample_shape)
    if preset.sample_range is not None:
        assert (real.min(), real.max()) == preset.sample_range


@EVERY
def test_building_by_name_gives_its_trainer(name):
    assert PRESETS.build(name, device="cpu").steps_done == 0
    assert PRESETS.build(Spec(name, loss="minimax"), device="cpu").loss == Minimax()


# --- parts by name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES.names())
def test_the_vanilla_gan_trains_with_every_loss_by_name(loss):
    trainer = train(vanilla_mnist, loss=loss)
    assert all(torch.isfinite(value) for value in trainer.metrics.values())


# waveforms are no pictures, and `frozen_features` needs a network
NOT_OF_PICTURES = ("multi_period", "multi_scale_waveform", "multi_resolution_stft", "frozen_features")
OF_PICTURES = [name for name in DISCRIMINATORS.names() if name not in NOT_OF_PICTURES]
FITTED = {
    # `patch` does not fit into 14 pixels, and says so; `vgg` halves them five times by default
    "multi_scale": Spec("multi_scale", scales=2, discriminator=Spec("patch", depth=1)),
    "vgg": Spec("vgg", depth=4, hidden_dim=4),
    # as wide as published, they are slow
    "unet": Spec("unet", hidden_dim=4),
    "blur_patch": Spec("blur_patch", hidden_dim=8, groups=2),
}


@pytest.mark.parametrize("generator", GENERATORS.names())
@pytest.mark.parametrize("discriminator", OF_PICTURES)
@pytest.mark.parametrize("preset", [vanilla_mnist, dcgan_mnist], ids=lambda preset: preset.name)
def test_any_generator_meets_any_discriminator_without_another_change(preset, generator, discriminator):
    discriminator = FITTED.get(discriminator, discriminator)
    images = train(preset, generator=generator, discriminator=discriminator).sample(2)
    assert images.shape == (2, 1, 28, 28)
    assert images.min() >= preset.sample_range[0]


def test_the_vanilla_gan_is_the_lectures():
    trainer = vanilla_mnist(device="cpu")
    assert isinstance(trainer.generator, MLPGenerator)
    assert isinstance(trainer.discriminator, MLPDiscriminator)
    assert sum(p.numel() for p in trainer.generator.parameters()) == 1_498_768
    assert sum(p.numel() for p in trainer.discriminator.parameters()) == 566_273
    assert trainer.latent.shape == (10,)
    assert trainer.discriminator_steps == 1
    for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.defaults["lr"] == 2e-4
        assert optimizer.defaults["betas"] == (0.5, 0.999)
        assert optimizer.defaults["fused"] is True
    assert len(vanilla_mnist.batches(device="cpu")) == 5_000 // 128


def test_a_conditional_model_is_one_argument():
    preset = vanilla_mnist.replace(num_classes=10, batch_size=16)
    trainer = preset(device="cpu").fit(preset.batches(device="cpu"), steps=2)
    digits = trainer.sample(10, condition=torch.arange(10))
    assert digits.shape == (10, 1, 28, 28)
    with pytest.raises(BadArgumentsError, match="needs a condition"):
        trainer.sample(10)


def test_arguments_of_a_spec_beat_those_of_the_preset():
    trainer = dcgan_mnist(device="cpu", generator=Spec("mlp", output_activation="sigmoid", widths=[8]))
    assert isinstance(trainer.generator.network[-1], nn.Sigmoid)


# --- parts as objects ------------------------------------------------------------------------------------


def test_objects_are_taken_as_they_are():
    G, D = MLPGenerator(10, (1, 28, 28), widths=[16]), MLPDiscriminator((1, 28, 28), widths=[16])
    optimizer = torch.optim.SGD(G.parameters(), lr=0.5)
    loss, penalty = Minimax(), R1(weight=1.0)
    trainer = vanilla_mnist(
        generator=G, discriminator=D, generator_optimizer=optimizer, loss=loss, regularizers=[penalty], device="cpu"
    )
    assert trainer.generator is G
    assert trainer.discriminator is D
    assert trainer.generator_optimizer is optimizer
    assert optimizer.defaults["lr"] == 0.5
    assert optimizer.defaults["fused"] is None
    assert trainer.loss is loss
    assert trainer.regularizers == {"r1": penalty}


def test_factories_are_called():
    trainer = vanilla_mnist(
        generator=MLPGenerator,
        loss=Minimax,
        generator_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        device="cpu",
    )
    assert isinstance(trainer.generator, MLPGenerator)
    assert isinstance(trainer.generator_optimizer, torch.optim.SGD)


def test_a_frozen_generator_as_gankit_load_returns_it_is_trained_once_it_requires_gradients():
    generator = MLPGenerator(10, (1, 28, 28), widths=[16]).eval().requires_grad_(False)
    with pytest.raises(BadValueError, match=r"a frozen network, as gankit.load returns it; call its requires_grad_"):
        vanilla_mnist(generator=generator, device="cpu")
    trainer = vanilla_mnist(generator=generator.requires_grad_(True), device="cpu")
    before = [p.detach().clone() for p in generator.parameters()]
    trainer.step(torch.rand(4, 1, 28, 28))
    assert trainer.generator.training
    assert not any(torch.equal(old, new) for old, new in zip(before, generator.parameters(), strict=True))


def with_widths(widths, sample_shape):
    return MLPDiscriminator(sample_shape, widths=widths)


@pytest.mark.parametrize(
    "discriminator",
    [
        partial(MLPDiscriminator, widths=(8,)),
        partial(MLPDiscriminator, (1, 28, 28), widths=(8,)),
        partial(MLPDiscriminator, sample_shape=(1, 28, 28), widths=(8,)),
        partial(with_widths, (8,)),
        partial(partial(with_widths, widths=(4,)), widths=(8,)),
        {"name": "mlp", "widths": [8]},
    ],
    ids=["keyword", "shape by position", "shape by keyword", "function", "nested", "JSON"],
)
def test_a_partial_or_a_json_form_is_built_as_a_spec(discriminator):
    trainer = vanilla_mnist(device="cpu", discriminator=discriminator)
    assert trainer.discriminator.network[0][0].out_features == 8


def test_arguments_of_a_partial_beat_those_of_the_preset():
    generator = partial(MLPGenerator, widths=(8,), output_activation="tanh")
    assert isinstance(vanilla_mnist(device="cpu", generator=generator).generator.network[-1], nn.Tanh)


def test_a_partial_of_a_network_is_refused():
    network = MLPDiscriminator((1, 28, 28))
    with pytest.raises(BadArgumentsError, match="a finished discriminator takes no arguments"):
        vanilla_mnist(device="cpu", discriminator=partial(network, condition=None))


def test_what_a_spec_says_of_fused_stays():
    trainer = vanilla_mnist(generator_optimizer=Spec("adam", lr=0.1, fused=False), device="cpu")
    assert trainer.generator_optimizer.defaults["fused"] is False


# --- seeds -----------------------------------------------------------------------------------------------


def test_one_seed_is_one_training():
    def weights(seed):
        small = vanilla_mnist.replace(batch_size=16)
        trainer = small(seed=seed, device="cpu").fit(small.batches(seed=seed, device="cpu"), steps=3)
        return torch.cat([p.detach().flatten() for p in trainer.generator.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_building_moves_no_global_generator():
    before = torch.get_rng_state()
    vanilla_mnist(device="cpu")
    vanilla_mnist.batches(device="cpu")
    assert torch.equal(before, torch.get_rng_state())


# --- replacing and describing ----------------------------------------------------------------------------


def test_a_schedule_goes_through_json():
    preset = vanilla_mnist.replace(loss=LossSchedule({0: "non_saturating", 2_000: "minimax"}), regularizers=["r1"])
    assert Preset.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


def test_a_preset_does_not_change():
    changed = vanilla_mnist.replace(steps=5)
    assert (changed.steps, vanilla_mnist.steps) == (5, 3_120)
    with pytest.raises(AttributeError):
        vanilla_mnist.steps = 5


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: vanilla_mnist(los="minimax"), BadArgumentsError, "unexpected argument 'los'. Did you mean 'loss'"),
        (lambda: vanilla_mnist(loss="minmax"), UnknownNameError, "unknown loss 'minmax'. Did you mean 'minimax'"),
        (lambda: vanilla_mnist(batch_size=3), BadArgumentsError, r"has no 'batch_size'; give it to \.batches\(\)"),
        (lambda: vanilla_mnist(device="gpu"), DeviceError, "one torch knows, such as 'cpu' or 'cuda', got 'gpu'"),
        (
            lambda: vanilla_mnist(generator=Spec("mlp", hiden_dim=3), device="cpu"),
            BadArgumentsError,
            "'hiden_dim'. Did you mean 'hidden_dim'",
        ),
        (
            lambda: vanilla_mnist(generator=Spec("mlp", hidden_dim="wide"), device="cpu"),
            BadArgumentsError,
            "'hidden_dim' must be int, got 'wide'",
        ),
        (lambda: vanilla_mnist(regularizers=["r1", "r1"], device="cpu"), BadValueError, "got 'r1' twice"),
        (
            lambda: vanilla_mnist(latent=Shapeless(), device="cpu"),
            BadArgumentsError,
            "a generator by name needs a latent whose shape is",
        ),
        (lambda: vanilla_mnist(sample_range=(0, 2), device="cpu"), BadValueError, r"sample_range must be \(0, 1\)"),
        (lambda: vanilla_mnist.replace(stepps=3), BadArgumentsError, "no field 'stepps'. Did you mean 'steps'"),
        (lambda: vanilla_mnist.replace(batch_size=0), BadValueError, "batch_size must be above 0, got 0"),
        (lambda: vanilla_mnist.replace(generator=nn.Identity()), BadArgumentsError, "objects go into the call"),
        (
            lambda: vanilla_mnist.replace(loss=LossSchedule({0: "minimax", 5: Hinge()})),
            BadArgumentsError,
            r"a preset's loss must be a name or a Spec, got Hinge\(clipped_generator=False\); objects go into the call",
        ),
        (lambda: Preset.from_dict({"name": "x", "colour": 1}), BadArgumentsError, r"unknown \['colour'\]"),
        (lambda: vanilla_mnist.batches("mnist_5kk"), UnknownNameError, "Did you mean 'mnist_5k'"),
        (lambda: vanilla_mnist.batches(root="x"), BadArgumentsError, "unexpected argument 'root'"),
        (
            lambda: vanilla_mnist.batches(torch.zeros(200, 1, 28, 28), root="x"),
            BadArgumentsError,
            "root is for a data set by name",
        ),
        (lambda: vanilla_mnist.batches(3), BadArgumentsError, "data must be a tensor"),
        (lambda: vanilla_mnist.batches(torch.zeros(0, 1, 28, 28)), DataError, "N above 0"),
        (lambda: vanilla_mnist.batches(torch.zeros(5, 1, 28, 28)), DataError, "fill a batch of 128, got 5"),
        (lambda: vanilla_mnist.batches(torch.zeros(200, 3, 32, 32)), ShapeError, r"\(1, 28, 28\), got \(3, 32, 32\)"),
        (lambda: vanilla_mnist.batches(torch.full((200, 1, 28, 28), 9.0)), DataError, r"in \[0, 1\], got values from"),
        (
            lambda: vanilla_mnist.batches(torch.full((200, 1, 28, 28), float("nan"))),
            DataError,
            "finite, got NaN or infinite values in 200 samples, first in number 0",
        ),
        (lambda: vanilla_mnist(device="meta"), DeviceError, "must be one that computes, got 'meta'"),
        (lambda: vanilla_mnist(seed="one", device="cpu"), BadArgumentsError, "seed must be an integer, got 'one'"),
        (lambda: vanilla_mnist.batches(seed=2**70, device="cpu"), BadValueError, "seed must be from"),
        (
            lambda: vanilla_mnist(generator=Spec("mlp", device="meta"), device="cpu"),
            DeviceError,
            "must be built on a device that computes",
        ),
        (
            lambda: vanilla_mnist(generator=Spec("mlp", device="nowhere"), device="cpu"),
            BadValueError,
            "the generator mlp:device=nowhere cannot be built here: ",
        ),
        (
            lambda: vanilla_mnist(generator=Spec("mlp", hidden_dim=2**62), device="cpu"),
            BadValueError,
            "the generator mlp:hidden_dim=[0-9]+ cannot be built here: ",
        ),
        (
            lambda: vanilla_mnist.replace(num_classes=10)(generator=Spec("mlp", num_classes=3), device="cpu"),
            BadValueError,
            "the generator's num_classes must be 10, the model's, got 3",
        ),
        (  # which would judge pictures of any size, and say nothing
            lambda: vanilla_mnist(discriminator=Spec("patch", sample_shape=[1, 32, 32]), device="cpu"),
            ShapeError,
            r"the discriminator's sample_shape must be \(1, 28, 28\), the model's, got \(1, 32, 32\)",
        ),
        (
            lambda: vanilla_mnist(generator=Spec("mlp", sample_shape=(784,)), device="cpu"),
            ShapeError,
            r"the generator's sample_shape must be \(1, 28, 28\), the model's, got \(784,\)",
        ),
        (
            lambda: vanilla_mnist(discriminator="multi_scale", device="cpu"),
            ShapeError,
            "multi_scale with scales=3 shows its discriminators pictures of .*; depth=1 fits, and fewer scales need",
        ),
        (
            lambda: vanilla_mnist.replace(num_classes=3).batches(device="cpu"),
            DataError,
            "labels must be from 0 to 2 for num_classes=3, got 0 to 9",
        ),
        (
            lambda: vanilla_mnist(generator_optimizer=Spec("adam", lr=-1.0), device="cpu"),
            BadValueError,
            "optimizer adam:.* must have arguments it can work with: Invalid learning rate: -1.0",
        ),
        (
            lambda: vanilla_mnist(generator=Spec("mlp", block="conv_bn_leaky_relu"), device="cpu"),
            ShapeError,
            "the generator MLPGenerator does not fit inputs of shape",
        ),
        (lambda: vanilla_mnist.replace(regularizers="r1"), BadArgumentsError, "must be a sequence of names, got 'r1'"),
        (lambda: vanilla_mnist.replace(name=3), BadArgumentsError, "a preset's name must be text, got 3"),
        (lambda: vanilla_mnist.replace(batch_size="3"), BadArgumentsError, "batch_size must be an integer, got '3'"),
        (lambda: vanilla_mnist.replace(num_classes=1.5), BadArgumentsError, "num_classes must be an integer, got 1.5"),
        (lambda: vanilla_mnist.replace(sample_shape=3), BadValueError, "sample_shape must be positive sizes"),
        (lambda: vanilla_mnist.replace(sample_shape=("1",)), BadArgumentsError, "sample_shape must be an integer"),
        (lambda: vanilla_mnist.replace(sample_range=3), BadArgumentsError, "sample_range must be two numbers"),
        (lambda: vanilla_mnist.replace(sample_range=(1, 0)), BadValueError, "the lowest first, got"),
        (
            lambda: vanilla_mnist.replace(learning_rate_decay="no"),
            BadArgumentsError,
            "a preset's learning_rate_decay must be True or False, got 'no'",
        ),
        (lambda: Preset.from_dict([]), BadArgumentsError, "must be a mapping of names to values, got"),
        (
            lambda: Preset.from_dict(vanilla_mnist.to_dict() | {"loss": {"schedule": {"first": {"name": "hinge"}}}}),
            BadArgumentsError,
            "a loss's schedule must have a loss for each first step, got",
        ),
        (
            lambda: Preset.from_dict(vanilla_mnist.to_dict() | {"loss": {"schedule": 3}}),
            BadArgumentsError,
            "a loss's schedule must have a loss for each first step, got 3",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(call, error, says):
    with pytest.raises(error, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
