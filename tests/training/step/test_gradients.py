"""Gradients are clipped by their norm, for each replica."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit.training.step.gradients import clip_gradient_norm


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0])
def test_each_replicas_gradient_is_clipped_as_torch_does_alone(max_norm):
    gradients = [torch.randn(3, *shape, dtype=torch.float64) * scale for shape, scale in (((4, 2), 1.0), ((5,), 0.5))]
    gradients[0][0] = 0.0
    gradients[1][0] = 0.0
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    without = nn.Parameter(torch.zeros(3, 2))
    norms = clip_gradient_norm([*parameters, without], max_norm, replicas=3)
    assert norms.shape == (3,)
    assert without.grad is None
    for index in range(3):
        own = [nn.Parameter(torch.zeros_like(gradient[index])) for gradient in gradients]
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient[index].clone()
        close(norms[index], nn.utils.clip_grad_norm_(own, max_norm))
        for parameter, alone in zip(parameters, own, strict=True):
            close(parameter.grad[index], alone.grad)


def test_without_replicas_the_gradient_is_clipped_as_torch_does():
    ours, theirs = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    ours.grad = torch.arange(4.0)
    theirs.grad = torch.arange(4.0)
    assert torch.equal(clip_gradient_norm([ours], 1.0), nn.utils.clip_grad_norm_([theirs], 1.0))
    assert torch.equal(ours.grad, theirs.grad)
