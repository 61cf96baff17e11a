"""Small networks, and contexts that need no trainer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gankit import AdversarialTrainer, StepContext
from gankit.latents import Normal
from gankit.losses import NonSaturating

SHAPE = (1, 4, 4)
CLASSES = 3


class LinearCritic(nn.Module):
    """The critic w.x, whose gradient is w everywhere."""

    def __init__(self, shape: tuple[int, ...], length: float) -> None:
        super().__init__()
        w = torch.randn(shape, dtype=torch.float64)
        self.w = nn.Parameter(length * w / w.norm())
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return (x * self.w).flatten(1).sum(1)


class QuadraticCritic(nn.Module):
    """The critic |x|^2 / 2, whose gradient at x is x: another one for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return self.scale * x.square().flatten(1).sum(1) / 2


def one_hot(conditional: bool, condition: Tensor | None, like: Tensor) -> list[Tensor]:
    if (condition is not None) != conditional:
        raise TypeError("a condition is missing, or one too many")
    return [] if condition is None else [torch.eye(CLASSES, dtype=like.dtype)[condition]]


class SmallGenerator(nn.Module):
    def __init__(self, conditional: bool = False) -> None:
        super().__init__()
        self.conditional = conditional
        self.first = nn.Linear(3 + CLASSES * conditional, 8)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 16)
        self.calls = 0

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        self.calls += 1
        inputs = torch.cat([z, *one_hot(self.conditional, condition, z)], dim=1)
        return self.last(self.norm(self.first(inputs)).relu()).view(-1, *SHAPE)


class SmallDiscriminator(nn.Module):
    def __init__(self, conditional: bool = False, kind: str = "plain") -> None:
        super().__init__()
        self.conditional = conditional
        self.first = nn.Linear(16 + CLASSES * conditional, 8)
        self.norm = nn.BatchNorm1d(8) if kind == "batch_norm" else nn.Identity()
        self.last = nn.Linear(8, 1)
        if kind == "spectral_norm":
            nn.utils.parametrizations.spectral_norm(self.first)
            nn.utils.parametrizations.spectral_norm(self.last)
        self.calls = 0
        self.feature_calls = 0

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        self.feature_calls += 1
        return self._features(x, condition)

    def _features(self, x: Tensor, condition: Tensor | None) -> Tensor:
        inputs = torch.cat([x.flatten(1), *one_hot(self.conditional, condition, x)], dim=1)
        # smooth, so that its gradient differs from place to place
        return self.norm(self.first(inputs)).tanh()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        self.calls += 1
        return self.last(self._features(x, condition)).squeeze(1)


def make_trainer(
    *, regularizers=(), conditional=False, kind="plain", lr=1e-2, optimizer=torch.optim.SGD, **options
) -> AdversarialTrainer:
    torch.manual_seed(0)
    G, D = SmallGenerator(conditional), SmallDiscriminator(conditional, kind)
    return AdversarialTrainer(
        G,
        D,
        NonSaturating(),
        latent=Normal(3),
        generator_optimizer=optimizer(G.parameters(), lr=lr),
        discriminator_optimizer=optimizer(D.parameters(), lr=lr),
        regularizers=regularizers,
        **options,
    )


def make_batches(count: int = 3, conditional: bool = False):
    random = torch.Generator().manual_seed(1)
    real = [torch.randn(6, *SHAPE, generator=random) for _ in range(count)]
    if not conditional:
        return real
    return [(one, torch.randint(CLASSES, (6,), generator=random)) for one in real]


# --- without a trainer -----------------------------------------------------------------------------------


class SmoothCritic(nn.Module):
    """`tanh(x A) . b`, for one GAN `(N, *shape)` or, with one more dimension, for several `(R, N, *shape)`."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b = a, b  # plain tensors, so that gradcheck may put its own

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return (x.flatten(self.b.ndim) @ self.a).tanh()

    def forward(self, x: Tensor) -> Tensor:
        return (self.features(x) * self.b.unsqueeze(-2)).sum(-1)


class SmoothGenerator(nn.Module):
    """`tanh(z A)`, for one GAN or several."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = a

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.a).tanh().unflatten(-1, SHAPE)


class FixedContext(StepContext):
    """A context whose noise is given, and whose samples may have a dimension of replicas."""

    noise: Tensor

    def normal_like(self, x: Tensor) -> Tensor:
        assert x.shape == self.noise.shape
        return self.noise

    def uniform_like(self, x: Tensor) -> Tensor:
        return self.noise.flatten(x.ndim)[..., 0].sigmoid()


def weights(replicas: int | None = None) -> dict[str, Tensor]:
    """The weights of a smooth critic and a smooth generator."""
    lead = () if replicas is None else (replicas,)
    return {
        "a": torch.randn(*lead, 16, 5, dtype=torch.float64) / 3,
        "b": torch.randn(*lead, 5, dtype=torch.float64),
        "g": torch.randn(*lead, 3, 16, dtype=torch.float64),
    }


def fixed_context(penalty, a: Tensor, b: Tensor, g: Tensor, real: Tensor, latent: Tensor, noise: Tensor):
    G = SmoothGenerator(g)
    latent = latent.detach().clone()
    if "latent" in penalty.gradient_inputs:
        latent.requires_grad_()
    fake = G(latent)
    context = FixedContext(
        discriminator=SmoothCritic(a, b),
        generator=G,
        real=real,
        fake=fake if penalty.half == "generator" else fake.detach(),
        latent=latent,
        gradient_inputs=penalty.gradient_inputs if penalty.half == "discriminator" else (),
        replicas=None if b.ndim == 1 else len(b),
    )
    context.noise = noise
    return context
