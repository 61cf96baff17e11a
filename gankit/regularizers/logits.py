"""Penalties on the logits themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from gankit.context import StepContext
from gankit.protocols import check_same_batch
from gankit.regularizers.penalty import AveragingPenalty, Penalty
from gankit.regularizers.registry import REGULARIZERS


@REGULARIZERS.register("logit_drift")
@dataclass(frozen=True)
class LogitDrift(Penalty):
    """Logit drift: keeps D's logits of real samples near zero (Karras et al. 2017, appendix A.1).

    Formula: `weight * D(x)^2` at real x. The Wasserstein loss leaves a constant in the critic's values undetermined,
    and this penalty keeps that constant from drifting. It reuses the forward pass of the loss.

    Args:
        weight: The paper's epsilon.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.

    Raises:
        BadValueError: If `weight` is negative or `every` is less than 1.

    Example:
        >>> D = torch.nn.Flatten(0)                                        # D(x) = x
        >>> LogitDrift(weight=0.5)(StepContext(discriminator=D, real=torch.tensor([[2.0], [4.0]])))
        tensor([2., 8.])
    """

    weight: float = 0.001
    every: int = 1

    @override
    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each real sample, `(..., N)`."""
        return self.weight * context.per_sample("real", [logits.square() for logits in context.heads("real")])


@REGULARIZERS.register("lecam")
class Lecam(AveragingPenalty):
    """LeCam: pulls D's real logits toward the average fake logit, and the reverse (Tseng et al. 2021, R_LC).

    Formula: `weight * ((D(x) - alpha_F)^2 + (D(G(z)) - alpha_R)^2)`, where `alpha_R` and `alpha_F` are moving
    averages of the mean logit of real and of fake samples. This is the paper's formula. With `rectified`, only the
    positive parts are squared, `max(0, D(x) - alpha_F)^2 + max(0, alpha_R - D(G(z)))^2`, as in the authors' code and in
    later image tokenizers: nothing then pulls apart logits that have passed each other's averages. It reuses both
    forward passes of the loss.

    With several processes, the trainer averages the moving averages after each update. `Adversary` averages the means
    of the batch, so that all processes have the averages of the whole batch.

    Each call in train mode, that is, each update of D in which the penalty is due, first updates the averages with
    this batch's means, and then computes the penalty with the new averages, which count as constants. The averages
    have no bias toward zero at the start: after the first call they are the first batch's means; later they are
    `decay` times the old plus `1 - decay` times the new value (divided by the sum of the weights, as in Adam). After
    `.eval()` they no longer change.

    Args:
        weight: The paper's lambda.
        decay: The paper's gamma, the factor by which an average is multiplied at each update.
        every: Apply the penalty only in every `every`-th step, `every` times as strong.
        rectified: Square only the positive parts of `D(x) - alpha_F` and `alpha_R - D(G(z))`.

    Attributes:
        real_average: `alpha_R`, a buffer, 0-d or with one value per replica. With several heads, each has averages of
            its own, in a leading dimension.
        fake_average: `alpha_F`, a buffer of the same shape.
        updates_done: The number of updates of the averages, a buffer.

    Raises:
        BadValueError: If `weight` is negative, `decay` is outside [0, 1), or `every` is less than 1.
        ShapeError: If it is called with different numbers of real and fake samples.

    Example:
        >>> D = torch.nn.Flatten(0)                                        # D(x) = x
        >>> context = StepContext(discriminator=D, real=torch.ones(2, 1), fake=torch.zeros(2, 1))
        >>> lecam = Lecam(weight=0.5)
        >>> lecam(context)                          # 0.5 * ((1 - 0)^2 + (0 - 1)^2)
        tensor([1., 1.])
        >>> lecam.real_average, lecam.fake_average
        (tensor(1.), tensor(0.))
    """

    real_average: Tensor
    fake_average: Tensor
    updates_done: Tensor

    def __init__(self, weight: float = 0.3, decay: float = 0.99, every: int = 1, *, rectified: bool = False) -> None:
        super().__init__(weight, decay, every)
        self.rectified = rectified
        self.register_buffer("real_average", torch.zeros(()))
        self.register_buffer("fake_average", torch.zeros(()))
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.long))

    @override
    def forward(self, context: StepContext) -> Tensor:
        """Return the penalty of each pair of a real sample and a fake, `(..., N)`."""
        heads = list(zip(context.heads("real"), context.heads("fake"), strict=True))
        for real, fake in heads:
            check_same_batch(real, fake)
        means = (_means([real for real, _ in heads]), _means([fake for _, fake in heads]))
        self._update(*(context.mean_over_ranks(one) for one in means))
        squares: list[Tensor] = []
        for index, (real, fake) in enumerate(heads):
            averages = [self.fake_average, self.real_average]
            if len(heads) > 1:
                averages = [one[index] for one in averages]
            from_fake, from_real = (one.unsqueeze(-1) for one in averages)
            above, below = real - from_fake, from_real - fake
            if self.rectified:
                above, below = above.relu(), below.relu()
            squares.append(above.square() + below.square())
        return self.weight * context.per_sample("real", squares)

    def _update(self, real: Tensor, fake: Tensor) -> None:
        self.fit_buffer("real_average", real)
        self.fit_buffer("fake_average", fake)
        self.updates_done = self.updates_done.to(real.device)
        if not self.training:
            return
        before = self.updates_done.to(real.dtype)
        # decay * (1 - decay^t) / (1 - decay^(t + 1)): exactly 0 at the first update
        kept = self.decay * (1 - self.decay**before) / (1 - self.decay ** (before + 1))
        self.real_average.lerp_(real, 1 - kept)
        self.fake_average.lerp_(fake, 1 - kept)
        self.updates_done += 1


def _means(heads: list[Tensor]) -> Tensor:
    """Return the mean logit of the only head, or those of all heads in a new first dimension, without a graph."""
    means = [one.detach().mean(-1) for one in heads]
    return means[0] if len(means) == 1 else torch.stack(means)
