"""Where latents come from: `LATENTS`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gankit.errors import check_positive
from gankit.protocols import Latent
from gankit.registry import Registry

LATENTS = Registry[Latent]("latent", group="gankit.latents")
"""Distributions of z, by name."""


@LATENTS.register("normal")
@dataclass(frozen=True)
class Normal:
    """Standard normal latents, N(0, I).

    Args:
        latent_dim: the length of one latent.

    Example:
        >>> z = Normal(10)(4, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
        >>> z.shape
        torch.Size([4, 10])
    """

    latent_dim: int

    def __post_init__(self) -> None:
        check_positive("latent_dim", self.latent_dim)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return (self.latent_dim,)

    def __call__(self, count: int, *, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw `(count, latent_dim)`."""
        return torch.randn(count, self.latent_dim, generator=generator, device=device)


@LATENTS.register("uniform")
@dataclass(frozen=True)
class Uniform(Normal):
    """Uniform latents in [-1, 1) (Radford et al. 2015, section 4).

    Args:
        latent_dim: the length of one latent.

    Example:
        >>> z = Uniform(100)(8, generator=None, device=torch.device("cpu"))
        >>> bool((z.abs() <= 1).all())
        True
    """

    def __call__(self, count: int, *, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw `(count, latent_dim)`."""
        return torch.rand(count, self.latent_dim, generator=generator, device=device) * 2 - 1
