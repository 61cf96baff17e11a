"""Penalties on gradients, against critics whose gradient is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import REGULARIZERS, StepContext
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.regularizers import (
    DRAGAN,
    R1,
    R1R2,
    R2,
    WassersteinGradientPenalty,
    ZeroCenteredInterpolated,
    gradient_norm,
    squared_gradient_norm,
)
from tests.regularizers.networks import LinearCritic, QuadraticCritic

SHAPES = pytest.mark.parametrize("shape", [(5,), (1, 4, 4), (3, 16, 16)], ids=str)
COUNTS = pytest.mark.parametrize("count", [1, 2, 7])
LENGTHS = pytest.mark.parametrize("length", [0.0, 0.5, 1.0, 3.0])


def pair(count: int, shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, count, *shape, dtype=torch.float64, generator=random)
    return real, fake


def context_for(penalty, critic: nn.Module, real: torch.Tensor, fake: torch.Tensor, seed: int = 0) -> StepContext:
    """What the trainer would make, the loss having read both logits."""
    context = StepContext(
        discriminator=critic,
        real=real,
        fake=fake,
        random=torch.Generator().manual_seed(seed),
        gradient_inputs=penalty.gradient_inputs,
    )
    context.logits("real")
    context.logits("fake")
    return context


# --- a linear critic: the gradient has the same length everywhere -----------------------------------------

CLOSED_FORMS = {
    "r1": lambda length: 10.0 / 2 * length**2,
    "r2": lambda length: 10.0 / 2 * length**2,
    "r1_r2": lambda length: 10.0 * length**2,
    "wasserstein_gradient_penalty": lambda length: 10.0 * (length - 1) ** 2,
    "dragan": lambda length: 10.0 * (length - 1) ** 2,
    "zero_centered_interpolated": lambda length: 10.0 * length**2,
}
# the derivative with respect to |w|, which points along w
SLOPES = {
    "r1": lambda length: 10.0 * length,
    "r2": lambda length: 10.0 * length,
    "r1_r2": lambda length: 20.0 * length,
    "wasserstein_gradient_penalty": lambda length: 20.0 * (length - 1) if length else 0.0,
    "dragan": lambda length: 20.0 * (length - 1) if length else 0.0,
    "zero_centered_interpolated": lambda length: 20.0 * length,
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@SHAPES
@COUNTS
@LENGTHS
def test_its_value_and_slope_for_a_linear_critic_are_the_closed_form(name, shape, count, length):
    critic, penalty = LinearCritic(shape, length), REGULARIZERS.build(name, weight=10.0)
    values = penalty(context_for(penalty, critic, *pair(count, shape)))
    torch.testing.assert_close(values, torch.full((count,), CLOSED_FORMS[name](length), dtype=torch.float64))
    values.mean().backward()
    w = critic.w.detach()
    along = w / length if length else w
    torch.testing.assert_close(critic.w.grad, SLOPES[name](length) * along)


@COUNTS
@pytest.mark.parametrize(("length", "wanted"), [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (3.0, 40.0)])
def test_the_one_sided_penalty_leaves_norms_under_1_alone(count, length, wanted):
    critic, penalty = LinearCritic((3, 4, 4), length), WassersteinGradientPenalty(one_sided=True)
    values = penalty(context_for(penalty, critic, *pair(count, (3, 4, 4))))
    torch.testing.assert_close(values, torch.full((count,), wanted, dtype=torch.float64))
    values.mean().backward()
    torch.testing.assert_close(critic.w.grad, (wanted > 0) * 20 * (length - 1) / (length or 1) * critic.w.detach())


def test_dragans_target_is_the_norm_that_costs_nothing():
    penalty = DRAGAN(target=3.0)
    values = penalty(context_for(penalty, LinearCritic((4,), 3.0), *pair(5, (4,))))
    torch.testing.assert_close(values, torch.zeros(5, dtype=torch.float64))


# --- a critic with another gradient for each sample --------------------------------------------------------


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_it_is_each_samples_own_and_never_the_batchs(name):
    critic, penalty = QuadraticCritic(), REGULARIZERS.build(name)
    real, fake = pair(6, (3, 4, 4))
    values = penalty(context_for(penalty, critic, real, fake))
    # where it looked: at the loss's samples, or at the one further pass's
    if name in ("r1", "r2", "r1_r2"):
        assert len(critic.seen) == 2
        seen = {"r1": [real], "r2": [fake], "r1_r2": [real, fake]}[name]
    else:
        assert len(critic.seen) == 3
        seen = critic.seen[2:]
    norms = [one.flatten(1).norm(dim=1) for one in seen]  # the gradient at x is x
    wanted = []
    for i in range(6):
        own = [norm[i].item() for norm in norms]
        if name in ("r1", "r2", "r1_r2"):
            wanted.append(5.0 * sum(one**2 for one in own))
        elif name == "zero_centered_interpolated":
            wanted.append(10.0 * own[0] ** 2)
        else:
            wanted.append(10.0 * (own[0] - 1) ** 2)
    torch.testing.assert_close(values.tolist(), wanted)
    assert values.unique().numel() == 6


@pytest.mark.parametrize("name", ["wasserstein_gradient_penalty", "zero_centered_interpolated"])
@SHAPES
def test_each_sample_lies_between_its_real_and_its_fake_at_an_epsilon_of_its_own(name, shape):
    critic, penalty = QuadraticCritic(), REGULARIZERS.build(name)
    real, fake = pair(50, shape)
    penalty(context_for(penalty, critic, real, fake))
    epsilon = (critic.seen[2].detach() - fake) / (real - fake)
    first = epsilon.flatten(1)[:, :1]
    torch.testing.assert_close(epsilon.flatten(1), first.expand(50, real[0].numel()))  # one for all of a sample
    assert first.unique().numel() == 50
    assert (first > -1e-9).all()
    assert (first < 1 + 1e-9).all()
    assert 0.3 < first.mean() < 0.7


def test_dragan_looks_beside_the_real_samples_as_far_as_it_says():
    critic, penalty = QuadraticCritic(), DRAGAN(noise_scale=0.5)
    real, fake = pair(500, (3, 4, 4))
    real = 7 * real + 2
    penalty(context_for(penalty, critic, real, fake))
    noise = critic.seen[2].detach() - real
    assert abs(noise.mean()) < 0.1
    torch.testing.assert_close(noise.std(), 0.5 * real.std(), rtol=0.03, atol=0.0)


def test_r1_and_r2_together_are_their_sum_in_one_call_to_autograd(monkeypatch):
    calls = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(a) or grad(*a, **k))
    real, fake = pair(4, (3, 4, 4))

    def value(penalty):
        return penalty(context_for(penalty, QuadraticCritic(), real, fake))

    together = value(R1R2(weight=3.0))
    assert len(calls) == 1
    torch.testing.assert_close(together, value(R1(weight=3.0)) + value(R2(weight=3.0)))


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_a_fake_with_a_graph_passes_it_nothing(name):
    penalty = REGULARIZERS.build(name)
    real, fake = pair(4, (5,))
    fake.requires_grad_()
    context = StepContext(
        discriminator=QuadraticCritic(), real=real, fake=2 * fake, gradient_inputs=penalty.gradient_inputs
    )
    penalty(context).sum().backward()
    assert fake.grad is None


@pytest.mark.parametrize("penalty", [WassersteinGradientPenalty(), DRAGAN(), ZeroCenteredInterpolated()])
def test_real_samples_that_another_penalty_differentiates_get_nothing_from_a_pass_of_its_own(penalty):
    context = context_for(R1R2(), QuadraticCritic(), *pair(4, (5,)))
    penalty(context).sum().backward()
    assert context.real.grad is None
    assert context.fake.grad is None


def test_the_seed_decides_the_points_between():
    penalty = WassersteinGradientPenalty()
    real, fake = pair(4, (5,))
    one, same, other = (penalty(context_for(penalty, QuadraticCritic(), real, fake, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("penalty", [WassersteinGradientPenalty(), DRAGAN()])
def test_the_norm_has_a_finite_derivative_at_zero_for_some_samples_alone(penalty):
    # |x|^2 / 2 has no gradient at 0
    real = torch.zeros(3, 5, dtype=torch.float64)
    values = penalty(context_for(penalty, critic := QuadraticCritic(), real, real))
    torch.testing.assert_close(values, torch.full((3,), 10.0, dtype=torch.float64))
    values.sum().backward()
    assert critic.scale.grad == 0


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [squared_gradient_norm, gradient_norm])
def test_samples_without_a_gradient_are_refused_with_what_to_do(function):
    with pytest.raises(BadArgumentsError, match="must require a gradient, got samples that do not"):
        function(torch.ones(2), torch.ones(2, 3))


@pytest.mark.parametrize("penalty", [R1(), R2(), R1R2()])
def test_a_context_without_the_gradient_inputs_is_refused(penalty):
    real, fake = pair(2, (3,))
    context = StepContext(discriminator=QuadraticCritic(), real=real, fake=fake)
    with pytest.raises(BadArgumentsError, match=r"StepContext\(\.\.\., gradient_inputs=penalty\.gradient_inputs\)"):
        penalty(context)


@pytest.mark.parametrize("penalty", [WassersteinGradientPenalty(), ZeroCenteredInterpolated()])
def test_unequal_batches_are_refused_and_never_broadcast(penalty):
    real, fake = pair(4, (3,))
    context = StepContext(discriminator=QuadraticCritic(), real=real, fake=fake[:1])
    with pytest.raises(ShapeError, match=r"same shape to be interpolated, got \(4, 3\) and \(1, 3\)"):
        penalty(context)


def test_r1_r2_refuses_unequal_batches():
    real, fake = pair(4, (3,))
    context = StepContext(
        discriminator=QuadraticCritic(), real=real, fake=fake[:1], gradient_inputs=R1R2.gradient_inputs
    )
    with pytest.raises(ShapeError, match=r"got \(4,\) and \(1,\)"):
        R1R2()(context)


# --- finite differences ----------------------------------------------------------------------------------

ZERO_CENTERED = pytest.mark.parametrize("name", ["r1", "r2", "r1_r2"])


class Wave(nn.Module):
    """A critic whose gradient changes: `a sin(w x)`, and its gradient is `a w cos(w x)`."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -0.5, 2.0], dtype=dtype))
        self.passes = []

    def forward(self, x):
        self.passes.append(x.dtype)
        return torch.nn.functional.linear(x, self.w[None]).squeeze(1).sin()

    def slopes(self, x):
        """The squared gradient norm."""
        return (self.w.square().sum() * (x @ self.w).cos().square()).detach()


def exact_and_difference(name, sigma, count=400_000):
    critic = Wave()
    real, fake = torch.tensor([[0.3, 0.2, -0.4]]).double(), torch.tensor([[0.1, 0.9, 0.5]]).double()
    many = (one.expand(count, 3) for one in (real, fake))
    penalty = REGULARIZERS.build(name, weight=2.0, sigma=sigma)
    found = penalty(context_for(penalty, critic, *many))
    expected = sum(critic.slopes(one) for one, own in ((real, "r1"), (fake, "r2")) if own in name.split("_"))
    return expected.item(), found.mean().item(), found.std().item() / count**0.5


@ZERO_CENTERED
def test_a_finite_difference_has_the_exact_penalty_as_its_limit_of_the_second_order(name):
    errors = []
    for sigma in (0.2, 0.1):
        exact, found, deviation = exact_and_difference(name, sigma)
        errors.append(found - exact)
        assert abs(found - exact) > 6 * deviation  # what remains is no chance
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    exact, found, deviation = exact_and_difference(name, 1e-4)
    assert abs(found - exact) < 4 * deviation


@ZERO_CENTERED
def test_a_finite_difference_needs_no_second_derivative_and_one_more_pass(name):
    critic = Wave()
    penalty = REGULARIZERS.build(name, sigma=0.01)
    assert penalty.gradient_inputs == frozenset()
    real, fake = torch.randn(2, 5, 3, dtype=torch.float64)
    context = context_for(penalty, critic, real, fake)
    before = len(critic.passes)
    value = penalty(context)
    assert len(critic.passes) - before == (2 if name == "r1_r2" else 1)
    assert not context.real.requires_grad
    assert value.shape == (5,)
    value.sum().backward()
    assert critic.w.grad.any()


def test_a_difference_is_that_of_its_noise_written_by_hand():
    critic, penalty = Wave(), R1(weight=3.0, sigma=0.05)
    real, fake = torch.randn(2, 5, 3, dtype=torch.float64)
    value = penalty(context_for(penalty, critic, real, fake, seed=7))
    noise = torch.empty_like(real).normal_(generator=torch.Generator().manual_seed(7))
    expected = 1.5 * ((critic(real + 0.05 * noise) - critic(real)) / 0.05) ** 2
    torch.testing.assert_close(value, expected)


@ZERO_CENTERED
def test_under_autocast_the_difference_is_taken_in_float32(name):
    critic = Wave(torch.float32)
    real, fake = torch.randn(2, 2000, 3)
    values = {}
    for autocast in (False, True):
        penalty = REGULARIZERS.build(name, weight=2.0, sigma=0.003)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            context = context_for(penalty, critic, real, fake)
            values[autocast] = penalty(context)
    torch.testing.assert_close(values[True], values[False])
    # what the rounded logits of the loss's own passes would give
    with torch.autocast("cpu", torch.bfloat16):
        noise = 0.003 * torch.randn_like(real)
        rounded = ((critic(real + noise) - critic(real)) / 0.003).float().square().mean()
    assert rounded > 1.4 * critic.slopes(real).mean()


def test_a_difference_of_rounded_logits_is_refused():
    critic = Wave(torch.bfloat16)
    penalty = R1(sigma=0.01)
    x = torch.randn(4, 3, dtype=torch.bfloat16)
    with pytest.raises(BadArgumentsError, match="^sigma needs a discriminator whose logits are float32 or wider, got"):
        penalty(context_for(penalty, critic, x, x))


def test_fakes_keep_their_condition_in_a_difference():
    seen = []

    class Conditional(nn.Module):
        def forward(self, x, condition):
            seen.append(condition)
            return x.sum(1)

    ours, theirs = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    x = torch.randn(2, 3)
    context = StepContext(discriminator=Conditional(), real=x, fake=x, condition=ours, fake_condition=theirs)
    R1R2(sigma=0.1)(context)
    assert [one is ours for one in seen] == [True, True, False, False]


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_sigma_is_refused(sigma):
    with pytest.raises(BadValueError, match="^sigma must be"):
        R1(sigma=sigma)
