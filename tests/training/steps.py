"""Small trainers, and everything that a step of them changes, for tests of how steps are run."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from gankit import AdversarialTrainer
from gankit.architectures import MLPDiscriminator, MLPGenerator
from gankit.latents import Normal
from gankit.losses import Minimax, NonSaturating
from gankit.training import Stacked
from gankit.training.step.step import Step

SHAPE = (1, 4, 4)
CLASSES = 3

# a small eps, so that gradients which are zero up to rounding do not become whole steps
adam = partial(torch.optim.Adam, lr=1e-2, eps=1e-4)


def block(inputs, outputs, *, device=None, dtype=None):
    """A block without a bias before BatchNorm, whose gradient would consist of rounding errors."""
    linear = nn.Linear(inputs, outputs, bias=False, device=device, dtype=dtype)
    return nn.Sequential(linear, nn.BatchNorm1d(outputs, device=device, dtype=dtype), nn.ReLU())


def small_networks(classes=None, dtype=torch.float32, sample_shape=SHAPE):
    G = MLPGenerator(
        3, sample_shape, widths=(8,), block=block, output_activation="tanh", num_classes=classes, dtype=dtype
    )
    return G, MLPDiscriminator(SHAPE, widths=(8,), num_classes=classes, dtype=dtype)


def with_dropout(classes=None, dtype=torch.float32):
    """Networks with dropout, which draws from torch's default generator."""
    G, D = small_networks(classes, dtype)
    D.network.insert(1, nn.Dropout(0.2))
    return G, D


class CountingLoss(nn.Module, Minimax):
    """A loss with a buffer that counts its calls, and that changes its values."""

    def __init__(self):
        nn.Module.__init__(self)
        self.register_buffer("count", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        self.count += 1
        return Minimax.discriminator_loss(Minimax(), real_logits, fake_logits) * (1 + self.count)


def stacked(networks, replicas):
    """Return a function that makes replicas of the pair that `networks` makes."""

    def make_stacked(classes=None, dtype=torch.float32):
        pairs = [networks(classes, dtype) for _ in range(replicas)]
        return [Stacked(alike) for alike in zip(*pairs, strict=True)]

    return make_stacked


def make(
    execution="eager",
    loss=None,
    *,
    networks=small_networks,
    optimizer=adam,
    classes=None,
    dtype=torch.float32,
    device="cpu",
    **options,
):
    torch.manual_seed(0)
    G, D = (network.to(device) for network in networks(classes, dtype))
    return AdversarialTrainer(
        G,
        D,
        loss or NonSaturating(),
        latent=Normal(3),
        generator_optimizer=optimizer(G.parameters()),
        discriminator_optimizer=optimizer(D.parameters()),
        execution=execution,
        **options,
    )


def make_batches(classes=None, dtype=torch.float32, *, replicas=(), device="cpu"):
    random = torch.Generator().manual_seed(1)
    real = [torch.randn(*replicas, 6, *SHAPE, generator=random).to(device, dtype) for _ in range(4)]
    if classes is None:
        return real
    return [(one, torch.randint(classes, (6,), generator=random).to(device)) for one in real]


def step_of(trainer):
    """Return a step on a trainer's state that is not counted."""
    return Step(trainer.state, trainer.options, trainer.state.objectives, trainer.ranks)


def everything(trainer):
    """Return a copy of each tensor that a step changes, by name, and of the newest results."""
    modules = {"G": trainer.generator, "D": trainer.discriminator, "average": trainer.averaged_generator}
    modules |= {f"part {index}": part for index, part in enumerate(trainer.parts())}
    found = dict(trainer.metrics)
    for name, module in modules.items():
        if isinstance(module, nn.Module):
            found |= {f"{name}.{key}": value.clone() for key, value in module.state_dict().items()}
    for name, optimizer in (("G", trainer.generator_optimizer), ("D", trainer.discriminator_optimizer)):
        for index, state in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{index}.{key}": torch.as_tensor(value).clone() for key, value in state.items()}
    return found


def counts(trainer):
    """Return what a step counts on the host."""
    return trainer.steps_done, 0 if trainer.average is None else trainer.average.updates_done


def randoms(trainer):
    """Return the states of all random generators."""
    generators = [*trainer.randomness.noises, *_listed(trainer.randomness.sampling)]
    return [one.get_state() for one in generators] + [trainer.randomness.default_state()]


def _listed(random):
    return [random] if isinstance(random, torch.Generator) else list(random)


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value.cpu(), other[name].cpu()), name


def assert_the_same_run(one, other, *, rtol=0.0, atol=0.0):
    first, second = everything(one), everything(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=rtol, atol=atol, msg=lambda text, name=name: name + text)
    assert counts(one) == counts(other)
    assert_equal(dict(enumerate(randoms(one))), dict(enumerate(randoms(other))))
