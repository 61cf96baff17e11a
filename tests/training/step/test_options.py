"""The options that make a step faster by changing it."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gankit import DISCRIMINATORS, AdversarialTrainer, Spec, StepContext
from gankit.architectures import DCGANDiscriminator, MLPDiscriminator, MLPGenerator
from gankit.errors import BadValueError, ShapeError
from gankit.latents import Normal
from gankit.losses import LOSSES, NonSaturating
from gankit.regularizers import DRAGAN, R1, R1R2, Lecam, PathLength, WassersteinGradientPenalty
from gankit.seeds import stream_seed

SHAPE = (1, 4, 4)
CLASSES = 3


def make(loss=None, *, discriminator=None, classes=None, dtype=torch.float64, **options):
    torch.manual_seed(0)
    G = MLPGenerator(3, SHAPE, widths=(8,), num_classes=classes, dtype=dtype)
    D = discriminator or MLPDiscriminator(SHAPE, widths=(8, 6), num_classes=classes, dtype=dtype)
    return AdversarialTrainer(
        G,
        D,
        loss or NonSaturating(),
        latent=Normal(3),
        # small eps makes whole steps of gradients that are zero but for rounding
        generator_optimizer=torch.optim.Adam(G.parameters(), lr=1e-2, eps=1e-4),
        discriminator_optimizer=torch.optim.Adam(D.parameters(), lr=1e-2, eps=1e-4),
        **options,
    )


def make_batches(classes=None, dtype=torch.float64):
    random = torch.Generator().manual_seed(1)
    real = [torch.randn(6, *SHAPE, generator=random).to(dtype) for _ in range(4)]
    if classes is None:
        return real
    return [(one, torch.randint(classes, (6,), generator=random)) for one in real]


def weights(trainer):
    return trainer.generator.state_dict() | {f"D.{name}": w for name, w in trainer.discriminator.state_dict().items()}


def assert_close(one, other, bound):
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=bound, atol=bound, msg=name)
    torch.testing.assert_close(other.metrics, one.metrics, rtol=bound, atol=bound)


# --- one pass through G for both halves ------------------------------------------------------------------


def shared_by_hand(G, D, batches, noise, discriminator_steps, steps, simultaneous=False):
    optimizer_G = torch.optim.Adam(G.parameters(), lr=1e-2, eps=1e-4)
    optimizer_D = torch.optim.Adam(D.parameters(), lr=1e-2, eps=1e-4)
    stream = itertools.cycle(batches)
    losses = []
    for _ in range(steps):
        for update in range(discriminator_steps):
            real = next(stream)
            z = torch.randn(len(real), 3, generator=noise)
            if update < discriminator_steps - 1:
                with torch.no_grad():
                    fake = G(z)
            else:
                fake = G(z)
            loss_D = (F.softplus(-D(real)) + F.softplus(D(fake.detach()))).mean()
            optimizer_D.zero_grad()
            loss_D.backward()
            if not simultaneous or update < discriminator_steps - 1:
                optimizer_D.step()
        loss_G = F.softplus(-D(fake)).mean()
        optimizer_G.zero_grad()
        for parameter, gradient in zip(G.parameters(), torch.autograd.grad(loss_G, [*G.parameters()]), strict=True):
            parameter.grad = gradient
        if simultaneous:
            optimizer_D.step()
        optimizer_G.step()
        losses.append((loss_D.item(), loss_G.item()))
    return losses


@pytest.mark.parametrize("option", ["share_generator_forward", "simultaneous_updates"])
@pytest.mark.parametrize("discriminator_steps", [1, 3])
def test_shared_fakes_equal_the_loop_written_by_hand_to_the_last_bit(discriminator_steps, option):
    data = make_batches(dtype=torch.float32)
    trainer = make(
        dtype=torch.float32,
        discriminator_steps=discriminator_steps,
        seed=3,
        log_every_steps=1,
        **{option: True},
    )
    other = make(dtype=torch.float32)
    noise = torch.Generator().manual_seed(stream_seed(3, "training noise"))
    by_hand = shared_by_hand(
        other.generator, other.discriminator, data, noise, discriminator_steps, 20, option == "simultaneous_updates"
    )
    trainer.fit(data, steps=20)
    assert [(row["discriminator_loss"], row["generator_loss"]) for row in trainer.history] == by_hand
    for name, value in weights(other).items():
        assert torch.equal(weights(trainer)[name], value), name


def test_sharing_counts_a_batch_of_fakes_once_in_batch_norm():
    trainer = make(share_generator_forward=True, discriminator_steps=2).fit(make_batches(), steps=3)
    assert trainer.generator.network[0][1].num_batches_tracked == 6
    apart = make(discriminator_steps=2).fit(make_batches(), steps=3)
    assert apart.generator.network[0][1].num_batches_tracked == 9


def test_sharing_draws_one_latent_fewer():
    shared, apart = make(share_generator_forward=True), make()
    shared.step(make_batches()[0]), shared.step(make_batches()[1])
    apart.step(make_batches()[0])
    assert torch.equal(shared.noise.get_state(), apart.noise.get_state())


def test_sharing_gives_both_halves_the_same_fakes_and_only_g_their_graph():
    seen = []

    class Watch(R1):
        def __call__(self, context):
            seen.append((context.fake, context.latent))
            return super().__call__(context)

    class WatchG(PathLength):
        def forward(self, context):
            seen.append((context.fake, context.latent))
            return super().forward(context)

    trainer = make(share_generator_forward=True, regularizers=[Watch(), WatchG()])
    trainer.step(make_batches()[0])
    (fake_D, latent_D), (fake_G, latent_G) = seen
    assert torch.equal(fake_D, fake_G)
    assert torch.equal(latent_D, latent_G)
    assert not fake_D.requires_grad
    assert not latent_D.requires_grad
    assert fake_G.grad_fn is not None


def test_sharing_during_warm_up_trains_d_alone():
    trainer = make(share_generator_forward=True, discriminator_warmup_steps=2)
    before = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    assert "generator_loss" not in trainer.step(make_batches()[0])
    trainer.step(make_batches()[1])
    assert all(torch.equal(before[name], value) for name, value in trainer.generator.named_parameters())
    assert "generator_loss" in trainer.step(make_batches()[2])
    last = trainer.generator.network[1]
    assert not torch.equal(before["network.1.weight"], last.weight)


@pytest.mark.parametrize("name", LOSSES.names())
def test_sharing_goes_with_every_loss(name):
    trainer = make(LOSSES.build(name), share_generator_forward=True, max_gradient_norm=1.0, averaging_decay=0.9)
    trainer.fit(make_batches(), steps=3)
    assert all(value.isfinite().all() for value in (*weights(trainer).values(), *trainer.metrics.values()))


# --- one pass through D for real and fake samples --------------------------------------------------------


# functions, because parts with averages are for one trainer each
PARTS = {
    "none": dict,
    "r1": lambda: {"regularizers": [R1()]},
    "r1_r2, lazily": lambda: {"regularizers": [R1R2(every=2)]},
    "others": lambda: {"regularizers": [WassersteinGradientPenalty(), DRAGAN(), Lecam(), PathLength()]},
    "conditional": lambda: {"classes": CLASSES, "regularizers": [R1()]},
    "two updates": lambda: {"discriminator_steps": 2},
    "shared": lambda: {"share_generator_forward": True, "regularizers": [R1()]},
    "relativistic": lambda: {"loss": LOSSES.build("relativistic_average")},
}


def assert_concatenated_passes_equal_separate_ones(parts, dtype, steps, bound):
    options = PARTS[parts]
    data = make_batches(options().get("classes"), dtype)
    separate = make(dtype=dtype, **options()).fit(data, steps=steps)
    together = make(dtype=dtype, concatenate_discriminator_passes=True, **options()).fit(data, steps=steps)
    assert_close(separate, together, bound)


@pytest.mark.parametrize("parts", PARTS)
def test_concatenated_passes_equal_separate_ones(parts):
    assert_concatenated_passes_equal_separate_ones(parts, torch.float64, 10, 1e-12)


@pytest.mark.parametrize("parts", ["none", "r1", "conditional"])
def test_concatenated_passes_equal_separate_ones_in_float32(parts):
    assert_concatenated_passes_equal_separate_ones(parts, torch.float32, 2, 1e-6)


def test_the_penalised_gradients_of_concatenated_passes_equal_those_of_separate_ones():
    gradients = []
    for concatenate in (False, True):
        trainer = make(
            dtype=torch.float32, regularizers=[R1(weight=100.0)], concatenate_discriminator_passes=concatenate
        )
        trainer.step(make_batches(dtype=torch.float32)[0])
        gradients.append([parameter.grad for parameter in trainer.discriminator.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


def with_batch_norm():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 1), nn.Flatten(0))


MIXING = {
    "BatchNorm1d": with_batch_norm,
    "BatchNorm2d": lambda: DCGANDiscriminator((1, 16, 16), hidden_dim=4),
    "MinibatchStandardDeviation": lambda: MLPDiscriminator(SHAPE, widths=(8,), minibatch_std=True),
    "PackedDiscriminator": lambda: DISCRIMINATORS.build(
        "packed", sample_shape=SHAPE, packing=2, discriminator=Spec("mlp", widths=(8,))
    ),
}


@pytest.mark.parametrize("layer", MIXING)
def test_a_discriminator_that_mixes_samples_is_not_concatenated(layer):
    D = MIXING[layer]()
    shape = getattr(D, "sample_shape", SHAPE)
    G = MLPGenerator(3, shape, widths=(8,))
    options = {
        "latent": Normal(3),
        "generator_optimizer": torch.optim.SGD(G.parameters()),
        "discriminator_optimizer": torch.optim.SGD(D.parameters()),
    }
    with pytest.raises(BadValueError, match=f"concatenate_discriminator_passes .* whose {layer} mixes the samples"):
        AdversarialTrainer(G, D, NonSaturating(), concatenate_discriminator_passes=True, **options)
    AdversarialTrainer(G, D, NonSaturating(), **options)


def test_what_mixes_in_the_generator_does_not_matter():
    trainer = make(concatenate_discriminator_passes=True)
    assert any(isinstance(layer, nn.BatchNorm1d) for layer in trainer.generator.modules())


@pytest.mark.parametrize(("concatenate", "passes"), [(False, 2), (True, 1)])
def test_spectral_norm_makes_a_step_of_its_power_method_in_each_pass(concatenate, passes):
    trainer = make(
        discriminator=MLPDiscriminator(SHAPE, widths=(8,), spectral_norm=True, dtype=torch.float64),
        concatenate_discriminator_passes=concatenate,
        discriminator_warmup_steps=1,
    )
    layer = trainer.discriminator.network[0][0].parametrizations.weight
    matrix, v = layer.original.detach().clone(), layer[0]._v.clone()
    trainer.step(make_batches()[0])
    for _ in range(passes):
        u = F.normalize(matrix @ v, dim=0)
        v = F.normalize(matrix.t() @ u, dim=0)
    torch.testing.assert_close(layer[0]._v, v, rtol=1e-12, atol=1e-12)


def test_unequal_samples_are_not_concatenated():
    D = MLPDiscriminator(SHAPE, widths=(8,))
    context = StepContext(discriminator=D, real=torch.zeros(4, *SHAPE), fake=torch.zeros(3, *SHAPE), concatenate=True)
    with pytest.raises(ShapeError, match="real and fake must have the same shape to be concatenated, got"):
        context.logits("real")
