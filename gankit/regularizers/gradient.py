"""Penalties on the gradient of the logits with respect to samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gankit.errors import check_positive
from gankit.protocols import GradientInput, Half, StepContext
from gankit.regularizers.registry import REGULARIZERS


def squared_gradient_norm(logits: Tensor, samples: Tensor) -> Tensor:
    """Return each sample's squared gradient norm, `|d logits_i / d samples_i|^2`, in the logits' shape.

    The graph is kept, so that the result can be differentiated again. The sum over the batch gives each
    sample its own gradient as long as D does not mix samples (BatchNorm in D does, and is then penalised
    for the whole batch's logits).

    Args:
        logits: `(..., N)`, computed from `samples`.
        samples: `(..., N, *sample_shape)`, requiring a gradient.

    Example:
        >>> x = torch.randn(4, 3, requires_grad=True)
        >>> squared_gradient_norm(x @ torch.tensor([1.0, 2.0, 2.0]), x)     # |w|^2 = 9
        tensor([9., 9., 9., 9.])
    """
    (gradient,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
    return gradient.square().flatten(logits.ndim).sum(-1)


@REGULARIZERS.register("r1")
@dataclass(frozen=True)
class R1:
    """R1: zero-centred gradient penalty on real samples (Mescheder et al. 2018, eq. 9).

    Formula: `weight / 2 * |grad_x D(x)|^2` at real x, D being the logit. It reuses the forward pass of the
    loss, so it costs a backward pass and no forward pass.

    Args:
        weight: gamma of the paper.
        every: apply in every `every`-th step, `every` times as strong (Karras et al. 2020, lazy
            regularization).

    Raises:
        BadValueError: for a negative `weight`, or `every` under 1.

    Example:
        >>> from torch import nn
        >>> D = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))
        >>> _ = nn.init.constant_(D[0].weight, 3.0)
        >>> context = StepContext(discriminator=D, real=torch.zeros(2, 2), gradient_inputs={"real"})
        >>> R1(weight=10.0)(context).detach()                              # 10 / 2 * (9 + 9)
        tensor([90., 90.])
    """

    weight: float = 10.0
    every: int = 1
    half: ClassVar[Half] = "discriminator"
    gradient_inputs: ClassVar[frozenset[GradientInput]] = frozenset({"real"})

    def __post_init__(self) -> None:
        check_positive("weight", self.weight, zero=True)
        check_positive("every", self.every)

    def __call__(self, context: StepContext) -> Tensor:
        """Return the penalty of each real sample, `(..., N)`."""
        return self.weight / 2 * squared_gradient_norm(context.logits("real"), context.real)
