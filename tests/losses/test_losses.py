"""What holds for every registered loss."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from gankit import LOSSES
from gankit.errors import BadArgumentsError, ShapeError
from gankit.protocols import AdversarialLoss

EVERY = pytest.mark.parametrize("name", LOSSES.names())
EXTREMES = torch.tensor([-1e4, -50.0, -1.0, 0.0, 1.0, 50.0, 1e4])


def halves(name):
    """The two halves, as functions of (real_logits, fake_logits)."""
    loss = LOSSES.build(name)
    return {"discriminator": loss.discriminator_loss, "generator": lambda real, fake: loss.generator_loss(fake, real)}


@EVERY
def test_it_has_the_shape_of_a_loss(name):
    loss = LOSSES.build(name)
    assert isinstance(loss, AdversarialLoss)
    assert isinstance(loss.needs_real_logits, bool)
    assert LOSSES.summary(name)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 5)])
def test_it_is_elementwise_in_shape_and_type(name, dtype, shape):
    real, fake = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    for half in halves(name).values():
        out = half(real, fake)
        assert out.shape == shape
        assert out.dtype == dtype


@EVERY
@pytest.mark.parametrize("half", ["discriminator", "generator"])
def test_its_gradient_is_the_one_of_finite_differences(name, half):
    real, fake = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    function = halves(name)[half]
    assert torch.autograd.gradcheck(function, (real, fake))
    assert torch.autograd.gradgradcheck(function, (real, fake))


@EVERY
def test_values_and_gradients_are_finite_far_from_zero(name):
    real, fake = (one.clone().requires_grad_() for one in torch.meshgrid(EXTREMES, EXTREMES, indexing="ij"))
    real_logits, fake_logits = real.flatten(), fake.flatten()
    for half in halves(name).values():
        out = half(real_logits, fake_logits)
        assert out.isfinite().all()
        gradients = torch.autograd.grad(out.sum(), (real, fake), retain_graph=True, allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@EVERY
def test_unequal_batches_are_refused_and_never_broadcast(name):
    loss = LOSSES.build(name)
    with pytest.raises(ShapeError, match=r"same shape \(N,\), got \(4,\) and \(1,\)"):
        loss.discriminator_loss(torch.zeros(4), torch.zeros(1))


@EVERY
def test_maps_of_judgements_are_refused_unless_they_are_flattened(name):
    x = torch.zeros(4, 1, 3)
    for half in halves(name).values():
        with pytest.raises(ShapeError, match=r"logits must be \(N,\), or \(R, N\) with R replicas, got \(4, 1, 3\)"):
            half(x, x)


@EVERY
def test_a_column_gives_the_values_of_a_row_or_is_refused(name):
    real, fake = torch.randn(2, 5)
    for half in halves(name).values():
        if name == "softmax" or name.startswith("relativistic_average"):  # statistics over the last dimension
            with pytest.raises(ShapeError, match=r"got \(5, 1\); \(N, 1\) becomes \(N,\) by .squeeze"):
                half(real[:, None], fake[:, None])
        else:
            assert torch.equal(half(real[:, None], fake[:, None]), half(real, fake)[:, None])


@EVERY
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 6))
def test_permuting_the_batch_permutes_the_losses(name, seed, count):
    random = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, count, generator=random, dtype=torch.float64)
    order = torch.randperm(count, generator=random)
    for half in halves(name).values():
        torch.testing.assert_close(half(real[order], fake[order]), half(real, fake)[order])


@EVERY
def test_replicas_equal_a_loop_over_them(name):
    real, fake = torch.randn(2, 3, 5, dtype=torch.float64)
    for half in halves(name).values():
        one_by_one = torch.stack([half(r, f) for r, f in zip(real, fake, strict=True)])
        torch.testing.assert_close(half(real, fake), one_by_one)


@EVERY
def test_misspelt_arguments_are_refused(name):
    with pytest.raises(BadArgumentsError, match="unexpected argument 'wieght'"):
        LOSSES.build(name, wieght=1.0)
