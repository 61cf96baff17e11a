"""`balanced_weight` and `Balancer`: formulas, number formats, states, errors, and several ranks."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from gankit import Adversary, Balancer, balanced_weight
from gankit.errors import BadArgumentsError, BadValueError, GankitError, GradientError, ShapeError
from gankit.testing.host_reads import count_host_reads
from tests.adversary.small_model import filled, last_layer, pictures, terms
from tests.ranks import on_ranks

WEIGHTS = {"l1": 0.1, "adversarial": 3.0, "feature": 3.0}


def two_losses(at, reconstruction=3.0, term=0.5):
    return (reconstruction * at).sum(), (term * at).sum()


# --- the weight ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slopes", "arguments", "expected"),
    [
        ((3, 0.5), {}, 6 / (1 + 1e-4)),
        ((3, 0.5), {"epsilon": 1.0}, 3.0),
        ((3, 0.0), {}, 1e4),
        ((3, 0.5), {"largest": 2.0}, 2.0),
        ((0, 0.5), {}, 0.0),
    ],
)
def test_the_weight_is_the_ratio_of_the_norms_within_its_bounds(slopes, arguments, expected):
    at = nn.Parameter(torch.zeros(2, 2))  # the norm of a slope s is 2 s
    weight = balanced_weight(*two_losses(at, *slopes), at=at, **arguments)
    assert weight.shape == ()
    assert not weight.requires_grad
    assert weight.item() == pytest.approx(expected)


def test_the_balanced_term_has_a_gradient_as_large_as_the_reconstruction():
    at = last_layer()
    losses = terms(*pictures(at))
    weight = balanced_weight(losses["l1"], losses["feature"], at=at)
    of_reconstruction, of_term = (
        torch.autograd.grad(one, at, retain_graph=True)[0].norm() for one in (losses["l1"], weight * losses["feature"])
    )
    assert of_term.item() == pytest.approx(of_reconstruction.item(), rel=1e-4)


def test_nothing_but_the_weight_is_left_behind():
    at = last_layer()
    losses = terms(*pictures(at))
    assert count_host_reads(lambda: balanced_weight(losses["l1"], losses["adversarial"], at=at)) == 0
    assert at.grad is None
    sum(losses.values()).backward()  # the graphs are still there


def test_a_term_without_a_graph_has_the_weight_zero():
    at = nn.Parameter(torch.ones(2))
    reconstruction, term = two_losses(at)
    assert balanced_weight(reconstruction, torch.zeros(()), at=at) == 0
    with torch.no_grad():
        assert balanced_weight(*two_losses(at), at=at) == 0
    assert balanced_weight(*two_losses(torch.ones(2)), at=torch.ones(2)) == 0  # a model that is frozen
    (reconstruction + balanced_weight(reconstruction, term.detach(), at=at) * term.detach()).backward()
    assert at.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_are_float32_whatever_the_precision_of_the_model(dtype):
    at = nn.Parameter(torch.full((64, 64), 300.0, dtype=dtype))
    # a norm of 6400 has a square beyond float16
    weight = balanced_weight(*two_losses(at, 100, 50), at=at)
    assert (weight.dtype, weight.item()) == (torch.float32, pytest.approx(2.0, rel=1e-6))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_around_the_call_changes_nothing(dtype):
    layer, x = nn.Linear(4, 3), filled(5, 4, phase=0.0).float()
    with torch.autocast("cpu", dtype):
        y = layer(x)
        losses = y.float().square().mean(), y.float().mean()
        inside = balanced_weight(*losses, at=layer.weight)
    assert inside == balanced_weight(*losses, at=layer.weight)
    assert inside.dtype == torch.float32


def test_losses_that_a_scaler_has_scaled_have_the_same_ratio():
    at = last_layer()
    losses = terms(*pictures(at))
    plain, scaled = (balanced_weight(s * losses["l1"], s * losses["feature"], at=at, epsilon=1e-12) for s in (1, 65536))
    assert scaled.item() == pytest.approx(plain.item(), rel=1e-9)


AT = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"term": AT.square()}, ShapeError, "term must be 0-d, got (2,); take the mean first"),
        ({"reconstruction": 0.5}, BadArgumentsError, "reconstruction must be a 0-d tensor, got float"),
        ({"at": nn.Linear(1, 1)}, BadArgumentsError, "at must be a tensor, got Linear"),
        ({"at": torch.ones(2)}, GradientError, "at must require a gradient, got a tensor that does not; give a weight"),
        ({"at": nn.Parameter(AT.data)}, GradientError, "reconstruction must depend on at, got one whose gradient"),
        ({"term": nn.Parameter(AT.data).sum()}, GradientError, "term must depend on at, got one whose gradient"),
        ({"reconstruction": AT.detach().sum()}, GradientError, "reconstruction must depend on at, got one whose"),
        ({"at": AT * 1, "average_over_ranks": True}, BadValueError, "at must be a parameter if average_over_ranks"),
        ({"epsilon": 0.0}, BadValueError, "epsilon must be above 0, got 0.0"),
        ({"largest": -1.0}, BadValueError, "largest must be above 0, got -1.0"),
    ],
)
def test_a_wrong_argument_of_the_weight_is_named(arguments, error, message):
    with pytest.raises(error) as caught:
        balanced_weight(**{"reconstruction": 3 * AT.sum(), "term": AT.sum(), "at": AT} | arguments)
    assert message in str(caught.value)


def test_a_call_after_backward_is_told_to_come_before_it():
    at = last_layer()
    output, target = pictures(at)
    losses = terms(output, target)
    sum(losses.values()).backward()
    with pytest.raises(GradientError, match=r"reconstruction must have its graph, .* call this before backward\(\)"):
        balanced_weight(losses["l1"], losses["adversarial"], at=at)
    with pytest.raises(GradientError, match="the loss l1 must have its graph"):
        Balancer(WEIGHTS)(losses, output)


# --- the balancer ----------------------------------------------------------------------------------------


def step_of(balancer, step=0, without=()):
    """Return the gradient of the last layer, and what the balancer has returned."""
    weight = last_layer()
    output, target = pictures(weight, step)
    losses = {name: loss for name, loss in terms(output, target).items() if name not in without}
    loss = balancer(losses, output)
    loss.backward()
    return weight.grad, loss.detach()


@pytest.mark.parametrize("per_batch_item", [True, False])
def test_each_gradient_has_its_share_of_the_norm(per_batch_item):
    output = filled(3, 4, phase=1.0).requires_grad_()
    slopes = {name: filled(3, 4, phase=phase) for phase, name in enumerate(WEIGHTS)}
    for name, slope in slopes.items():
        balancer = Balancer(WEIGHTS, total_norm=2.0, per_batch_item=per_batch_item).double()
        losses = {one: (1e3 * slope * output if one == name else 0 * output).sum() for one in WEIGHTS}
        (gradient,) = torch.autograd.grad(balancer(losses, output), output)
        norm = slope.norm(dim=1).mean() if per_batch_item else slope.norm()
        assert torch.allclose(gradient, 2.0 * WEIGHTS[name] / 6.1 * slope / norm, rtol=1e-9)


@pytest.mark.parametrize(("decay", "expected"), [(0.0, 4.0), (0.5, (1 + 2 * 4) / 3), (1.0, 2.5)])
def test_past_norms_count_less_by_the_decay(decay, expected):
    balancer = Balancer({"loss": 1.0}, decay=decay)
    for norm in (1.0, 4.0):
        output = torch.zeros(1, 1, requires_grad=True)
        balancer({"loss": norm * output.sum()}, output).backward()
    assert output.grad.item() == pytest.approx(4.0 / expected)


def test_the_value_is_that_of_the_losses_with_the_factors_of_their_gradients():
    weight = last_layer()
    output, target = pictures(weight)
    losses = terms(output, target)
    balanced = Balancer(WEIGHTS).double()(losses, output)
    norms = {
        name: torch.autograd.grad(loss, output, retain_graph=True)[0].flatten(1).norm(dim=1).mean()
        for name, loss in losses.items()
    }
    plain = sum(WEIGHTS[name] / 6.1 / norms[name] * loss for name, loss in losses.items())
    assert balanced.item() == pytest.approx(plain.item(), rel=1e-9)
    of_balanced, of_plain = (torch.autograd.grad(one, weight, retain_graph=True)[0] for one in (balanced, plain))
    assert torch.allclose(of_balanced, of_plain, rtol=1e-9)


def test_other_losses_may_be_added_and_parameters_behind_the_output_get_no_gradient():
    generator, discriminator, x = nn.Linear(2, 2), nn.Linear(2, 1), torch.ones(3, 2)
    output = generator(x)
    balanced = Balancer({"adversarial": 1.0})({"adversarial": -discriminator(output).mean()}, output)
    (0.5 * balanced + generator.bias.sum()).backward()
    assert discriminator.weight.grad is None
    # each of the three samples has a gradient of norm 1, in the direction of D's weight
    direction = discriminator.weight[0] / discriminator.weight.norm()
    assert torch.allclose(generator.bias.grad, 1 - 0.5 * 3 * direction)


def test_an_adversary_that_starts_late_needs_no_branch():
    generator = nn.Linear(2, 2)
    adversary = Adversary(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), loss="hinge", generator_start=1)
    balancer = Balancer({"l1": 1.0, "generator_loss": 3.0})
    for step, names in enumerate([["l1"], ["l1", "generator_loss"]]):
        output = generator(torch.ones(3, 2))
        l1 = (output - 5).abs().mean()
        weight = balanced_weight(l1, adversary.generator_loss(fake=output, step=step), at=generator.weight)
        assert (weight > 0) == (step == 1)
        balancer({"l1": l1, **adversary.generator_terms(fake=output, step=step)}, output).backward()
        assert list(balancer.metrics) == [f"{name}_norm_share" for name in names]


@pytest.mark.parametrize("absence", ["missing", "without a graph"])
def test_the_share_of_an_absent_loss_goes_to_the_others(absence):
    def losses_of(output):
        losses = {"l1": 100 * output.sum(), "feature": -0.01 * output.sum()}
        return losses if absence == "missing" else losses | {"adversarial": torch.zeros(())}

    balancer = Balancer(WEIGHTS)
    before = {name: one.clone() for name, one in balancer.state_dict().items()}
    output = torch.zeros(1, 4, requires_grad=True)
    balancer(losses_of(output), output).backward()
    assert output.grad.norm().item() == pytest.approx((3 - 0.1) / 3.1)
    assert set(balancer.metrics) == {"l1_norm_share", "feature_norm_share"}
    unchanged = [name for name, one in balancer.state_dict().items() if torch.equal(one, before[name])]
    assert unchanged == ["running_norm_adversarial"]


def test_without_any_graph_the_result_is_a_zero():
    balancer = Balancer(WEIGHTS)
    with torch.no_grad():
        output, target = pictures(last_layer())
        loss = balancer(terms(output, target), output)
    assert (loss.item(), loss.requires_grad) == (0.0, False)
    assert not any(one.any() for one in balancer.buffers())


def test_a_state_that_was_saved_resumes_exactly():
    whole, first, second = (Balancer(WEIGHTS, decay=0.9) for _ in range(3))
    expected = [step_of(whole, step) for step in range(4)]
    for step in range(2):
        step_of(first, step)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    resumed = [step_of(second, step) for step in (2, 3)]
    for (gradient, value), (same, same_value) in zip(resumed, expected[2:], strict=True):
        assert torch.equal(gradient, same)
        assert torch.equal(value, same_value)


def test_a_state_of_other_losses_is_refused():
    with pytest.raises(RuntimeError, match="running_norm_feature"):
        Balancer({"l1": 1.0}).load_state_dict(Balancer(WEIGHTS).state_dict())


def test_eval_mode_keeps_the_averages():
    balancer, other = Balancer(WEIGHTS), Balancer(WEIGHTS)
    step_of(balancer)
    step_of(other)
    before = copy.deepcopy(balancer.state_dict())
    gradient, _ = step_of(balancer.eval(), step=1)
    assert torch.equal(gradient, step_of(other, step=1)[0])
    assert all(torch.equal(one, before[name]) for name, one in balancer.state_dict().items())


def test_norms_that_are_not_finite_are_left_out():
    balancer = Balancer({"loss": 1.0})
    for slope in (2.0, float("inf"), float("nan"), 2.0):
        output = torch.zeros(1, 1, requires_grad=True)
        balancer({"loss": (slope * output).sum()}, output).backward()
    assert output.grad.item() == 1.0


def test_the_averages_stay_in_float32_in_a_model_that_is_cast_to_half_precision():
    balancer = Balancer({"loss": 1.0}).half()
    output = torch.zeros(1, 1, requires_grad=True)
    balancer({"loss": 2 * output.sum()}, output)
    assert balancer.running_norm_loss.dtype == torch.float32
    assert balancer.running_norm_loss.tolist() == [2.0, 1.0]


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_GPU)])
def test_autocast_and_a_scaler_leave_the_shares_as_they_are(device, dtype):
    def losses_of(output):
        return {"square": output.square().mean(), "mean": -output.mean()}

    layer, x = nn.Linear(4, 3).to(device), filled(5, 4, phase=0.0).float().to(device)
    balancer, other = (Balancer({"square": 1.0, "mean": 3.0}) for _ in range(2))  # on the CPU until the first call
    other(losses_of(output := layer(x)), output).backward()
    expected = layer.bias.grad.clone()
    layer.zero_grad()
    with torch.autocast(device, dtype):
        output = layer(x).float()
        losses = losses_of(output)
        results = []
        assert count_host_reads(lambda: results.append(balancer(losses, output))) == 0
        weight = balanced_weight(losses["square"], losses["mean"], at=layer.weight)
    assert balancer.running_norm_mean.device == weight.device == layer.weight.device
    assert weight.isfinite()
    scaler = torch.amp.GradScaler(device, init_scale=1024.0)
    scaler.scale(results[0]).backward()
    assert torch.allclose(layer.bias.grad / scaler.get_scale(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_a_scalers_number_do_not_overflow(dtype):
    output = torch.zeros(2, 1024, dtype=dtype, requires_grad=True)
    loss = Balancer({"loss": 1.0})({"loss": (300 * output).mean(dtype=torch.float32)}, output)
    (65536 * loss).backward()
    assert loss.dtype == torch.float32
    # each of 2 samples has a gradient of norm 1 in 1024 equal numbers, 65536 times
    assert torch.equal(output.grad, torch.full_like(output, 2048.0))


def test_the_balancer_does_not_wait_for_the_device():
    balancer, weight = Balancer(WEIGHTS), last_layer()
    output, target = pictures(weight)
    losses = terms(output, target)
    assert count_host_reads(lambda: balancer(losses, output).backward()) == 0


OUTPUT = torch.ones(2, 3, requires_grad=True)
LOSS = (OUTPUT * 2).sum()


@pytest.mark.parametrize(
    ("losses", "output", "error", "message"),
    [
        (
            {"features": LOSS},
            OUTPUT,
            BadValueError,
            "l1, adversarial, feature, got 'features'. Did you mean 'feature'?",
        ),
        ({}, OUTPUT, BadValueError, "losses must have at least one loss, got none"),
        ([LOSS], OUTPUT, BadArgumentsError, "losses must be a mapping from names to losses, got list"),
        ({"l1": OUTPUT}, OUTPUT, ShapeError, "the loss l1 must be 0-d, got (2, 3); take the mean first"),
        ({"l1": 1.0}, OUTPUT, BadArgumentsError, "the loss l1 must be a 0-d tensor, got float"),
        ({"l1": LOSS}, OUTPUT * 1, GradientError, "the loss l1 must depend on output, got one whose gradient"),
        ({"l1": LOSS}, OUTPUT.detach(), GradientError, "the loss l1 must depend on output, got one whose gradient"),
        ({"l1": LOSS}, OUTPUT.sum(), ShapeError, "output must be one or more samples, (N, ...), got ()"),
        ({"l1": LOSS}, None, BadArgumentsError, "output must be a tensor, got NoneType"),
    ],
)
def test_a_wrong_call_is_named_and_changes_nothing(losses, output, error, message):
    balancer = Balancer(WEIGHTS)
    with pytest.raises(error) as caught:
        balancer(losses, output)
    assert message in str(caught.value)
    assert not any(one.any() for one in balancer.buffers())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": {}}, "weights must be a mapping from the names of the losses to numbers, got {}"),
        ({"weights": {"a.b": 1.0}}, "weights must have names without a dot, which divides a state_dict, got 'a.b'"),
        ({"weights": {"a": 0.0}}, "the weight of a must be above 0, got 0.0"),
        ({"decay": 1.5}, "decay must be in [0, 1], got 1.5"),
        ({"decay": -0.5}, "decay must be 0 or more, got -0.5"),
        ({"total_norm": 0.0}, "total_norm must be above 0, got 0.0"),
        ({"epsilon": 0.0}, "epsilon must be above 0, got 0.0"),
    ],
)
def test_a_wrong_argument_of_the_balancer_is_named(arguments, message):
    with pytest.raises(GankitError) as caught:
        Balancer(**{"weights": {"a": 1.0}} | arguments)
    assert str(caught.value) == message


# --- several ranks ---------------------------------------------------------------------------------------


def rank_results():
    """What each of two ranks gets for its half of four pictures, and for a part of another size."""
    rank, size = dist.get_rank(), dist.get_world_size()
    weight = last_layer()
    model = nn.parallel.DistributedDataParallel(LastLayer(weight))
    output = model(FEATURES.chunk(size)[rank])
    losses = terms(output, TARGETS.chunk(size)[rank])
    balanced_weights = [
        balanced_weight(losses["l1"], losses["adversarial"], at=weight, average_over_ranks=average).item()
        for average in (True, False)
    ]
    balancer = Balancer(WEIGHTS, decay=0.5).double()
    balancer(losses, output).backward()
    gradient = weight.grad.clone()
    # three samples on the first rank, one on the second
    output = LastLayer(weight)(FEATURES[:3] if rank == 0 else FEATURES[3:])
    balancer({"l1": (output * SLOPES[: len(output)]).sum()}, output)
    return balanced_weights, gradient.numpy(), {name: one.numpy() for name, one in balancer.state_dict().items()}


class LastLayer(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, features):
        return torch.nn.functional.conv2d(features, self.weight, padding=1)


FEATURES, TARGETS = filled(4, 3, 5, 7, phase=2.0), filled(4, 2, 5, 7, phase=3.0)
SLOPES = filled(4, 2, 5, 7, phase=5.0)


def test_two_ranks_share_weights_and_norms():
    first, second = on_ranks(2, rank_results)
    weight = last_layer()
    output = LastLayer(weight)(FEATURES)
    losses = terms(output, TARGETS)
    alone = balanced_weight(losses["l1"], losses["adversarial"], at=weight).item()
    assert first[0][0] == second[0][0] == pytest.approx(alone, rel=1e-9)
    assert first[0][1] != second[0][1]  # each of its own
    # the norm of a sample is the same in a batch of any size, and averaged gradients are half of added ones
    balancer = Balancer(WEIGHTS, decay=0.5).double()
    balancer(losses, output).backward()
    for one in (first, second):
        assert torch.allclose(2 * torch.from_numpy(one[1]), weight.grad, rtol=1e-9)
    parts = [SLOPES[:3], SLOPES[:1]]
    norm = torch.cat(parts).flatten(1).norm(dim=1).mean()  # of all four samples
    expected = balancer.running_norm_l1 * 0.5
    # the mean over half of the samples makes gradients twice as large
    expected = torch.stack([2 * expected[0] + norm, expected[1] + 1])
    for _, _, state in (first, second):
        assert torch.allclose(torch.from_numpy(state["running_norm_l1"]), expected, rtol=1e-9)
    assert all((first[2][name] == second[2][name]).all() for name in first[2])
