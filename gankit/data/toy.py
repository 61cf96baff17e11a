"""Toy problems: distributions of points in the plane, of which a picture shows everything."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gankit.data.registry import DATASETS
from gankit.errors import ShapeError, check_count, check_positive


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Round Gaussians of equal size and probability.

    Formula: `x = modes[k] + standard_deviation * e` with `k` uniform and `e` standard normal.

    Args:
        modes: The centres, `(modes, dimensions)`.
        standard_deviation: The standard deviation of each Gaussian, along each axis.

    Raises:
        ShapeError: If the centres have another shape.
        BadValueError: If the standard deviation is not positive.

    Example:
        >>> two = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.1)
        >>> two.sample(5).shape, two.sample_shape
        (torch.Size([5, 2]), (2,))
    """

    modes: Tensor
    standard_deviation: float
    _placed: dict[torch.device, Tensor] = field(default_factory=dict[torch.device, Tensor], init=False, repr=False)

    def __post_init__(self) -> None:
        if self.modes.ndim != 2 or not self.modes.numel():
            raise ShapeError(f"modes must be (modes, dimensions), got {tuple(self.modes.shape)}")
        check_positive("standard_deviation", self.standard_deviation)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: `(dimensions,)`."""
        return tuple(self.modes.shape[1:])

    def sample(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw `(count, dimensions)`."""
        device = torch.device(device)
        if device not in self._placed:  # copied once instead of in every step
            self._placed[device] = self.modes.to(device)
        modes = self._placed[device]
        chosen = torch.randint(len(modes), (count,), generator=generator, device=device)
        centres = modes.index_select(0, chosen)
        noise = torch.randn(centres.shape, generator=generator, device=device, dtype=centres.dtype)
        return centres.add_(noise, alpha=self.standard_deviation)


@DATASETS.register("ring")
def ring(modes: int = 8, *, radius: float = 1.0, standard_deviation: float = 0.01) -> GaussianMixture:
    """Eight narrow Gaussians on the unit circle, the 2D-ring (Srivastava et al. 2017; Lin et al. 2018, section 4.1).

    Formula: centres `radius * (cos(2 pi i / modes), sin(2 pi i / modes))`.

    Args:
        modes: The number of Gaussians.
        radius: The radius of the circle.
        standard_deviation: The standard deviation of each Gaussian, along each axis.

    Raises:
        BadValueError: If a number is not positive.

    Example:
        >>> data = ring()
        >>> data.modes.shape, data.standard_deviation
        (torch.Size([8, 2]), 0.01)
    """
    check_count("modes", modes)
    check_positive("radius", radius)
    angles = torch.arange(modes, dtype=torch.float64) * (2 * math.pi / modes)
    centres = radius * torch.stack([angles.cos(), angles.sin()], dim=1)
    return GaussianMixture(centres.float(), standard_deviation)


@DATASETS.register("grid")
def grid(side: int = 5, *, spacing: float = 2.0, standard_deviation: float = 0.05) -> GaussianMixture:
    """Twenty-five narrow Gaussians on a grid, the 2D-grid (Srivastava et al. 2017; Lin et al. 2018, section 4.1).

    Formula: centres `spacing * (i, j)` with `i` and `j` in -2, -1, 0, 1, 2: by default {-4, -2, 0, 2, 4}^2.

    Args:
        side: The number of Gaussians in each row and each column.
        spacing: The distance between neighbours.
        standard_deviation: The standard deviation of each Gaussian, along each axis.

    Raises:
        BadValueError: If a number is not positive.

    Example:
        >>> data = grid()
        >>> data.modes[:6].tolist()
        [[-4.0, -4.0], [-4.0, -2.0], [-4.0, 0.0], [-4.0, 2.0], [-4.0, 4.0], [-2.0, -4.0]]
    """
    check_count("side", side)
    check_positive("spacing", spacing)
    places = spacing * (torch.arange(side) - (side - 1) / 2)
    return GaussianMixture(torch.cartesian_prod(places, places).view(-1, 2), standard_deviation)


class _NoisyCurve:
    """Points of a curve in the plane, with normally distributed noise."""

    standard_deviation: float

    def __post_init__(self) -> None:
        check_positive("standard_deviation", self.standard_deviation, zero=True)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """`(2,)`."""
        return (2,)

    def _with_noise(self, points: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(points.shape, generator=generator, device=points.device)
        return points.add_(noise, alpha=self.standard_deviation)


@DATASETS.register("swiss_roll")
@dataclass(frozen=True)
class SwissRoll(_NoisyCurve):
    """A spiral in the plane, the cross-section of a swiss roll (Gulrajani et al. 2017, figure 2).

    Formula: `x = t (cos t, sin t) / 7.5 + standard_deviation * e`, `t` uniform in `[1.5 pi, 4.5 pi)` and `e`
    standard normal.

    Args:
        standard_deviation: The standard deviation of the noise, along each axis.

    Raises:
        BadValueError: If the standard deviation is negative.

    Example:
        >>> points = SwissRoll(0.0).sample(1000)
        >>> radii = points.norm(dim=1) * 7.5 / math.pi
        >>> bool((radii >= 1.49).all()), bool((radii <= 4.51).all())
        (True, True)
    """

    standard_deviation: float = 0.03

    def sample(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw `(count, 2)`."""
        t = torch.rand(count, generator=generator, device=device).mul_(3).add_(1.5).mul_(math.pi)
        points = torch.stack([t.cos(), t.sin()], dim=1).mul_(t.unsqueeze(1) / 7.5)
        return self._with_noise(points, generator)


@DATASETS.register("two_moons")
@dataclass(frozen=True)
class TwoMoons(_NoisyCurve):
    """Two interleaved half circles (Pedregosa et al. 2011, `make_moons`, centred here).

    Formula: with `t` uniform in `[0, pi)` and `e` standard normal, one half circle is `(cos t, sin t)`, the other is
    `(1 - cos t, 0.5 - sin t)`, and both are moved by `(-0.5, -0.25)` and by `standard_deviation * e`.

    Args:
        standard_deviation: The standard deviation of the noise, along each axis.

    Raises:
        BadValueError: If the standard deviation is negative.

    Example:
        >>> TwoMoons().sample(6).shape
        torch.Size([6, 2])
    """

    standard_deviation: float = 0.05

    def sample(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw `(count, 2)`."""
        t = torch.rand(count, generator=generator, device=device).mul_(math.pi)
        # the second half circle is the first one rotated by 180 degrees around the centre of both
        side = torch.randint(2, (count, 1), generator=generator, device=device) * 2 - 1
        points = torch.stack([t.cos() - 0.5, t.sin() - 0.25], dim=1) * side
        return self._with_noise(points, generator)
