"""`stacked_mnist`: three digits in the three channels of one picture, in 1,000 combinations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gankit.data.digits import mnist, mnist_5k
from gankit.data.registry import DATASETS
from gankit.data.scaling import scaled
from gankit.errors import BadValueError, ShapeError


@dataclass(frozen=True, eq=False)
class StackedDigits:
    """Pictures of three digits each, which are drawn independently of each other.

    Args:
        digits: The digits, `(N, 1, H, W)` bytes.
        sample_range: The lowest and the highest value of a sample.

    Raises:
        ShapeError: If the digits have another shape, or there are none.
        BadValueError: If the range is not two finite numbers, the lowest first.

    Example:
        >>> digits = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
        >>> StackedDigits(digits, (0.0, 1.0)).sample(5).shape
        torch.Size([5, 3, 1, 1])
    """

    digits: Tensor
    sample_range: tuple[float, float] = (-1.0, 1.0)
    _placed: dict[torch.device, Tensor] = field(default_factory=dict[torch.device, Tensor], init=False, repr=False)

    def __post_init__(self) -> None:
        if self.digits.ndim != 4 or self.digits.shape[1] != 1 or not len(self.digits):
            raise ShapeError(f"digits must be (N, 1, H, W) with N above 0, got {tuple(self.digits.shape)}")
        low, high = self.sample_range
        if not -math.inf < low < high < math.inf:
            raise BadValueError(f"sample_range must be two finite numbers, the lowest first, got {self.sample_range}")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample: `(3, H, W)`."""
        return (3, *self.digits.shape[2:])

    def sample(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw `(count, 3, H, W)`."""
        device = torch.device(device)
        if device not in self._placed:  # copied once instead of in every step
            self._placed[device] = self.digits.to(device)
        digits = self._placed[device]
        rows = torch.randint(len(digits), (3 * count,), generator=generator, device=device)
        return scaled(digits.index_select(0, rows).view(count, *self.sample_shape), self.sample_range)


@DATASETS.register("stacked_mnist")
def stacked_mnist(
    root: str | Path | None = None, *, sample_range: tuple[float, float] = (-1.0, 1.0), download: bool = True
) -> StackedDigits:
    """StackedMNIST: three random digits as the channels of a picture, 1,000 classes (Srivastava et al. 2017).

    The class of a picture is `100 a + 10 b + c`, where a, b and c are its three digits. Each batch is drawn anew on the
    device. Srivastava et al. (VEEGAN) and Lin et al. 2018 (PacGAN, section 4.2) count how many of the classes 26,000
    samples of a generator have, as `gankit.metrics.stacked_mnist_modes` does.

    Args:
        root: The folder of MNIST, whose 60,000 training digits are stacked. None stacks the 5,000 digits that come
            with gankit.
        sample_range: The lowest and the highest value of a sample.
        download: Whether torchvision should download missing files into `root`.

    Raises:
        DataNotFoundError: If files are missing in `root` and cannot, or must not, be downloaded.
        BadValueError: If the range is not two finite numbers, the lowest first.

    Example:
        >>> data = stacked_mnist()
        >>> data.sample_shape, data.sample(2).shape
        ((3, 28, 28), torch.Size([2, 3, 28, 28]))
    """
    digits = mnist_5k() if root is None else mnist(root, download=download)
    return StackedDigits(digits.samples, sample_range)
