"""Latents: the distributions of the generator's input z, by name in `LATENTS`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gankit.errors import BadValueError, check_count, check_positive
from gankit.protocols import Latent
from gankit.registry import Registry

LATENTS = Registry[Latent]("latent", group="gankit.latents")
"""Distributions of z, by name."""


@LATENTS.register("normal")
@dataclass(frozen=True)
class Normal:
    """Standard normal latents, N(0, I).

    Args:
        latent_dim: The length of one latent.

    Example:
        >>> z = Normal(10)(4, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
        >>> z.shape
        torch.Size([4, 10])
    """

    latent_dim: int

    def __post_init__(self) -> None:
        check_count("latent_dim", self.latent_dim)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return (self.latent_dim,)

    def __call__(self, count: int, *, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw latents, `(count, latent_dim)`."""
        return torch.randn(count, self.latent_dim, generator=generator, device=device)


@LATENTS.register("uniform")
@dataclass(frozen=True)
class Uniform(Normal):
    """Uniform latents, in [-1, 1) unless `limit` says otherwise (Radford et al. 2015, section 4).

    Args:
        latent_dim: The length of one latent.
        limit: The bound: latents are in [-limit, limit). The square root of 3 gives them a variance of 1.

    Raises:
        BadValueError: If `latent_dim` or `limit` is not positive.

    Example:
        >>> z = Uniform(100)(8, generator=None, device=torch.device("cpu"))
        >>> bool((z.abs() <= 1).all())
        True
    """

    limit: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("limit", self.limit)

    def __call__(self, count: int, *, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw latents, `(count, latent_dim)`."""
        return torch.rand(count, self.latent_dim, generator=generator, device=device) * (2 * self.limit) - self.limit


@LATENTS.register("one_hot_normal")
@dataclass(frozen=True, kw_only=True)
class OneHotNormal:
    """A one-hot code followed by narrow normal noise (Mukherjee et al. 2019, ClusterGAN, section 2).

    Formula: `z = (e_k, standard_deviation * n)`, where `k` is uniform over the categories and `n` is standard normal.
    Because the categories are separated, a continuous generator can reach separated modes without producing samples
    between them.

    Args:
        latent_dim: The length of one latent, which is the code and the noise together.
        categories: The length of the code; the remaining entries are noise.
        standard_deviation: The standard deviation of the noise; 0.1 in the paper.

    Raises:
        BadValueError: If a length is not positive, `categories` exceeds `latent_dim`, or `standard_deviation` is
            negative.

    Example:
        >>> z = OneHotNormal(latent_dim=12, categories=10)(4, generator=None, device=torch.device("cpu"))
        >>> z.shape, z[:, :10].sum(1)
        (torch.Size([4, 12]), tensor([1., 1., 1., 1.]))
    """

    latent_dim: int
    categories: int
    standard_deviation: float = 0.1

    def __post_init__(self) -> None:
        check_count("latent_dim", self.latent_dim)
        check_count("categories", self.categories)
        check_positive("standard_deviation", self.standard_deviation, zero=True)
        if self.categories > self.latent_dim:
            raise BadValueError(f"categories must be at most latent_dim={self.latent_dim}, got {self.categories}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return (self.latent_dim,)

    def __call__(self, count: int, *, generator: torch.Generator | None, device: torch.device) -> Tensor:
        """Draw latents, `(count, latent_dim)`."""
        chosen = torch.randint(self.categories, (count, 1), generator=generator, device=device)
        code = torch.zeros(count, self.categories, device=device).scatter_(1, chosen, 1.0)
        normals = torch.randn(count, self.latent_dim - self.categories, generator=generator, device=device)
        return torch.cat([code, normals.mul_(self.standard_deviation)], dim=1)
