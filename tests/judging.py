"""Small networks whose discriminator judges samples, positions or with several heads, for tests of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gankit import Answer

SHAPE = (1, 4, 4)
CLASSES = 3
LATENT_DIM = 3
# the positions of each head, as D returns them; the first two return one tensor, the others an Answer
KINDS: dict[str, tuple[tuple[int, ...], ...]] = {
    "patches": ((1, 3, 5),),
    "frames": ((1, 7),),
    "two heads": ((4,), (2, 3)),
    "five heads": ((2,), (3, 4), (), (1, 5), (7,)),
}
HEAD_WEIGHTS = {"five heads": (1.0, 0.5, 2.0, 0.0, 3.0)}


def with_planes(x: Tensor, condition: Tensor | None, planes: int) -> Tensor:
    """Join samples with a condition by channel: pictures as they are, and labels as one plane for each class."""
    if (condition is None) != (planes == 0):
        raise TypeError("a condition is missing, or one too many: got NoneType" if planes else "a condition too many")
    if condition is None:
        return x
    if condition.ndim < x.ndim:
        one_hot = condition.unsqueeze(-1) == torch.arange(CLASSES)
        condition = one_hot.to(x.dtype)[..., None, None].expand(*one_hot.shape, *x.shape[-2:])
    return torch.cat([x, condition], 1)


class Judge(nn.Module):
    """A smooth discriminator. With heads, its `Answer` has the features of two layers.

    Args:
        kind: A key of `KINDS`, or `samples` for one logit for each sample.
        planes: The channels of the condition.
        dtype: The type of the weights.
    """

    def __init__(self, kind: str, planes: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.positions = KINDS.get(kind, ((),))
        self.planes = planes
        inputs = math.prod(SHAPE) * (1 + planes)
        self.first = nn.Linear(inputs, 6, dtype=dtype)
        self.last = nn.Linear(6, sum(map(math.prod, self.positions)), dtype=dtype)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor | Answer:
        hidden = self.first(with_planes(x, condition, self.planes).flatten(1)).tanh()
        flat = 3 * self.last(hidden)
        parts = flat.split([math.prod(one) for one in self.positions], 1)
        heads = [part.reshape(len(x), *one) for part, one in zip(parts, self.positions, strict=True)]
        return heads[0] if len(heads) == 1 else Answer(tuple(heads), features=[hidden, flat])


class Maker(nn.Module):
    """A smooth generator."""

    def __init__(self, planes: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.planes = planes
        self.first = nn.Linear(LATENT_DIM, 16, dtype=dtype)
        self.last = nn.Linear(16 * (1 + planes), 16, dtype=dtype)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        hidden = self.first(z).unflatten(1, SHAPE)
        return self.last(with_planes(hidden, condition, self.planes).flatten(1)).tanh().unflatten(1, SHAPE)


def small_pair(kind: str, planes: int = 0, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Maker, Judge]:
    """Return a generator and a discriminator, the same ones in each call."""
    torch.manual_seed(seed)
    return Maker(planes, dtype), Judge(kind, planes, dtype)


def real_samples(count: int = 5, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rows_of(returned: Tensor | Answer) -> list[Tensor]:
    """Return the judgements of each head, `(N, P)`: one row for each sample."""
    heads: Sequence[Tensor] = returned.heads if isinstance(returned, Answer) else [returned]
    return [head.reshape(len(head), -1) for head in heads]
