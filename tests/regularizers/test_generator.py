"""The generator's further terms, against computations by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import Answer, StepContext
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.regularizers import FeatureMatching, LayerMatching, ModeSeeking, PathLength


class Critic(nn.Flatten):
    """Any critic; its features are the given function of x."""

    def __init__(self, features=None):
        super().__init__(1)
        if features is not None:
            self.features = lambda x, condition: features(x)

    def forward(self, x, condition=None):
        return super().forward(x).sum(1)


class LinearGenerator(nn.Module):
    """G(z) = W z (+ the condition), as pictures of `shape`."""

    def __init__(self, latent_dim, shape):
        super().__init__()
        self.shape = shape
        size = torch.Size(shape).numel()
        self.w = nn.Parameter(torch.randn(size, latent_dim, dtype=torch.float64))
        self.seen = []

    def forward(self, z, condition=None):
        self.seen.append((z, condition))
        x = z @ self.w.T
        if condition is not None:
            x = x * condition.unsqueeze(1)
        return x.unflatten(1, self.shape)


# --- feature matching ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (6,), (2, 3, 3)], ids=str)
def test_feature_matching_is_the_squared_distance_of_the_mean_features(shape):
    real, fake = torch.randn(2, 5, 7, dtype=torch.float64)
    w = torch.randn(7, torch.Size(shape).numel(), dtype=torch.float64)
    fake.requires_grad_()

    def features(x):
        return (x @ w).view(len(x), *shape)

    values = FeatureMatching(weight=2.0)(StepContext(discriminator=Critic(features), real=real, fake=fake))
    gap = (real.mean(0) - fake.mean(0)) @ w
    torch.testing.assert_close(values, (2 * (gap @ gap)).expand(5))
    values.mean().backward()
    torch.testing.assert_close(fake.grad, (-4 * w @ gap / 5).detach().expand(5, 7))


def test_feature_matching_reads_another_number_of_real_samples_too():
    real, fake = torch.ones(3, 2), torch.zeros(5, 2)
    values = FeatureMatching()(StepContext(discriminator=Critic(lambda x: x), real=real, fake=fake))
    torch.testing.assert_close(values, torch.full((5,), 2.0))


def test_feature_matching_gives_the_real_side_no_graph():
    real, fake = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    FeatureMatching()(StepContext(discriminator=Critic(lambda x: x), real=real, fake=fake)).sum().backward()
    assert real.grad is None
    assert fake.grad is not None


def test_feature_matching_needs_a_discriminator_with_features():
    context = StepContext(discriminator=Critic(), real=torch.zeros(2, 3), fake=torch.zeros(2, 3))
    with pytest.raises(
        BadArgumentsError,
        match=r"must have features\(x, condition\), or return an Answer with features=.* got a Critic without",
    ):
        FeatureMatching()(context)


# --- mode seeking --------------------------------------------------------------------------------------------


def by_hand(fake, other, latent, other_latent):
    return [
        1 / ((x - y).abs().mean() / (z - w).abs().mean() + 1e-5)
        for x, y, z, w in zip(fake, other, latent, other_latent, strict=True)
    ]


def test_mode_seeking_pairs_each_sample_with_its_neighbour():
    G, z = LinearGenerator(3, (1, 2, 2)), torch.randn(5, 3, dtype=torch.float64)
    fake = G(z)
    values = ModeSeeking(weight=2.0)(StepContext(discriminator=Critic(), generator=G, fake=fake, latent=z))
    neighbours = [4, 0, 1, 2, 3]
    torch.testing.assert_close(values, 2 * torch.stack(by_hand(fake, fake[neighbours], z, z[neighbours])))
    assert len(G.seen) == 1


def test_mode_seeking_holds_the_condition_where_there_is_one():
    G, z = LinearGenerator(3, (1, 2, 2)), torch.randn(5, 3, dtype=torch.float64)
    condition = torch.arange(1.0, 6.0, dtype=torch.float64)
    fake = G(z, condition)
    context = StepContext(discriminator=Critic(), generator=G, fake=fake, latent=z, condition=condition)
    values = ModeSeeking()(context)
    assert len(G.seen) == 2
    other_latent, other_condition = G.seen[1]
    assert torch.equal(other_latent, z[[4, 0, 1, 2, 3]])
    assert torch.equal(other_condition, condition)
    other = (other_latent @ G.w.T * condition.unsqueeze(1)).unflatten(1, (1, 2, 2))
    torch.testing.assert_close(values, torch.stack(by_hand(fake, other, z, other_latent)))


def test_mode_seeking_is_less_the_more_samples_differ_and_falls_by_descent():
    z = torch.randn(5, 3, dtype=torch.float64)
    G = LinearGenerator(3, (4,))

    def value():
        return ModeSeeking()(StepContext(discriminator=Critic(), fake=G(z), latent=z)).mean()

    before = value()
    before.backward()
    with torch.no_grad():
        G.w -= 0.01 * G.w.grad
    assert value() < before


def test_a_collapsed_generator_pays_a_finite_amount_and_equal_latents_nothing():
    z = torch.randn(4, 3, dtype=torch.float64)
    fake = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    values = ModeSeeking()(StepContext(discriminator=Critic(), fake=fake, latent=z))
    torch.testing.assert_close(values, torch.full((4,), 1e5, dtype=torch.float64))
    for latent in (z, torch.zeros_like(z)):
        values = ModeSeeking()(StepContext(discriminator=Critic(), fake=fake, latent=latent))
        values.sum().backward()
        assert fake.grad.isfinite().all()
    assert values.count_nonzero() == 0


def test_mode_seeking_refuses_a_batch_of_one():
    context = StepContext(discriminator=Critic(), fake=torch.zeros(1, 2), latent=torch.zeros(1, 3))
    with pytest.raises(BadValueError, match="pairs the samples of a batch, so it needs 2 or more, got 1"):
        ModeSeeking()(context)


def test_mode_seeking_with_a_condition_needs_the_generator():
    context = StepContext(
        discriminator=Critic(), fake=torch.zeros(2, 2), latent=torch.zeros(2, 3), condition=torch.zeros(2)
    )
    with pytest.raises(BadArgumentsError, match="mode_seeking with a condition needs the StepContext's generator="):
        ModeSeeking()(context)


# --- path length ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "pixels"), [((6,), 6), ((2, 3, 3), 9), ((1, 4, 4), 16)], ids=str)
def test_path_length_of_a_linear_generator_is_known(shape, pixels):
    G, z = LinearGenerator(3, shape), torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    part = PathLength(weight=2.0, decay=0.9)
    average = 0.0
    for step in range(3):
        random = torch.Generator().manual_seed(step)
        context = StepContext(discriminator=Critic(), generator=G, fake=G(z), latent=z, random=random)
        values = part(context)
        noise = torch.randn(5, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        lengths = (noise.flatten(1) / pixels**0.5 @ G.w).norm(dim=1)  # J is W
        average = 0.9 * average + 0.1 * lengths.mean().item()
        assert part.average.item() == pytest.approx(average)
        torch.testing.assert_close(values, 2 * (lengths - average) ** 2)

        G.w.grad = None
        values.sum().backward()
        (wanted,) = torch.autograd.grad((2 * (lengths - average) ** 2).sum(), G.w)  # the average is a constant
        torch.testing.assert_close(G.w.grad, wanted)
    assert len(G.seen) == 3


def test_path_length_is_each_samples_own():
    z = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    scales = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    part = PathLength(weight=1.0, decay=0.5)
    noise = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fake = z * scales.unsqueeze(1)
    values = part(StepContext(discriminator=Critic(), fake=fake, latent=z, random=torch.Generator().manual_seed(0)))
    lengths = [(scales[i] * noise[i] / 3**0.5).norm() for i in range(4)]
    average = torch.stack(lengths).mean() / 2
    torch.testing.assert_close(values, torch.stack([(one - average) ** 2 for one in lengths]))


def test_path_length_keeps_its_average_in_its_state():
    z = torch.randn(4, 3, requires_grad=True)
    part = PathLength()
    part(StepContext(discriminator=Critic(), fake=2 * z, latent=z))
    assert list(part.state_dict()) == ["average"]
    resumed = PathLength()
    resumed.load_state_dict(part.state_dict())
    assert torch.equal(resumed.average, part.average)
    assert repr(part) == "PathLength(weight=2.0, decay=0.99, every=1)"


def test_path_length_refuses_latents_that_require_no_gradient():
    z = torch.zeros(2, 3)
    with pytest.raises(BadArgumentsError, match="path_length needs latents that require a gradient"):
        PathLength()(StepContext(discriminator=Critic(), fake=2 * z, latent=z))


@pytest.mark.parametrize("part", [ModeSeeking(), PathLength()], ids=["mode_seeking", "path_length"])
def test_a_context_without_latents_is_refused(part):
    with pytest.raises(BadArgumentsError, match=r"needs the StepContext's latent=, got None"):
        part(StepContext(discriminator=Critic(), fake=torch.zeros(2, 3)))


# --- layer_matching --------------------------------------------------------------------------------------


class Heads(torch.nn.Module):
    """A discriminator of two heads with two layers each."""

    def forward(self, x):
        layers = [[x, x.square()], [x.mean(1, keepdim=True), 3 * x[:, :1]]]
        return Answer(heads=(x.sum(1), x[:, 0]), features=layers)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("normalize", ["none", "heads", "all"])
def test_layer_matching_is_a_loop_over_heads_layers_and_samples(normalize, relative):
    real, fake = torch.randn(2, 5, 4, dtype=torch.float64)
    fake.requires_grad_()
    D = Heads()
    term = LayerMatching(weight=3.0, normalize=normalize, relative=relative)
    found = term(StepContext(discriminator=D, real=real, fake=fake))
    ours, theirs = D(real).features, D(fake).features
    for n in range(5):
        total = 0.0
        for head in range(2):
            for layer in range(2):
                distance = (ours[head][layer][n] - theirs[head][layer][n]).abs().mean()
                total += distance / (ours[head][layer].abs().mean() if relative else 1)
        torch.testing.assert_close(found[n], 3 * total / {"none": 1, "heads": 2, "all": 4}[normalize])
    found.sum().backward()
    assert fake.grad.any()


def test_layer_matching_with_a_weight_of_two_is_hifi_gans():
    """`feature_loss` of jik876/hifi-gan, models.py, commit 4769534: twice the sum of mean absolute differences."""
    real, fake = torch.randn(2, 5, 4, dtype=torch.float64)
    D = Heads()
    ours, theirs = D(real).features, D(fake).features
    pairs = ((a, b) for head, other in zip(ours, theirs, strict=True) for a, b in zip(head, other, strict=True))
    expected = 2 * sum((a - b).abs().mean() for a, b in pairs)
    found = LayerMatching(weight=2.0)(StepContext(discriminator=D, real=real, fake=fake)).mean()
    torch.testing.assert_close(found, expected)


def test_no_gradient_of_layer_matching_reaches_the_real_side():
    real, fake = torch.randn(2, 5, 4, requires_grad=True).unbind()
    real = real.detach().requires_grad_()
    LayerMatching()(StepContext(discriminator=Heads(), real=real, fake=fake)).sum().backward()
    assert real.grad is None


def test_layer_matching_refuses_what_has_no_target():
    with pytest.raises(ShapeError, match=r"^layer_matching compares each fake with its real sample, .* \(5, 4\) and"):
        LayerMatching()(StepContext(discriminator=Heads(), real=torch.zeros(5, 4), fake=torch.zeros(3, 4)))
    with pytest.raises(BadValueError, match="^normalize must be one of none, heads, all, got 'layers'"):
        LayerMatching(normalize="layers")
