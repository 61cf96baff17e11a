"""Every penalty where D judges positions or has several heads, against loops over samples, positions and heads."""

from __future__ import annotations

import pytest
import torch

from gankit import REGULARIZERS, StepContext
from gankit.errors import BadArgumentsError
from gankit.protocols import Regularizer
from gankit.regularizers import FeatureMatching, Lecam
from tests.judging import HEAD_WEIGHTS, KINDS, LATENT_DIM, real_samples, rows_of, small_pair

COUNT = 5
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def doubled(x, *, generator):
    return 1.5 * x.flip(-1)


class ByHand:
    """The terms of a penalty, sample by sample."""

    def __init__(self, kind, context, reduction):
        self.D, self.context, self.reduction = context.discriminator, context, reduction
        self.weights = context.head_weights or [1.0] * len(KINDS[kind])
        self.random = torch.Generator().manual_seed(3)

    def number(self, x):
        """The number of one sample that is differentiated."""
        total = 0
        for weight, (row,) in zip(self.weights, rows_of(self.D(x[None])), strict=True):
            judgements = list(row)
            total = total + weight * sum(judgements) / (len(judgements) if self.reduction == "mean" else 1)
        return total

    def mean(self, value, *samples):
        """The mean over positions of a value of the judgements of some samples, added over the heads by weight."""
        total = 0
        for index, weight in enumerate(self.weights):
            rows = [rows_of(self.D(x[None]))[index][0] for x in samples]
            values = [value(index, *judgements) for judgements in zip(*rows, strict=True)]
            total = total + weight * sum(values) / len(values)
        return total

    def squared_norm(self, x):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.number(x), x, create_graph=True)
        return sum(one.square() for one in gradient.flatten())

    def between(self):
        share = torch.empty(COUNT, dtype=torch.float64).uniform_(generator=self.random)
        return [e * x + (1 - e) * y for e, x, y in zip(share, self.context.real, self.context.fake, strict=True)]

    def near(self):
        real = self.context.real.detach()
        noise = torch.empty_like(real).normal_(generator=self.random)
        return real + 0.5 * real.std(correction=0) * noise

    def averages(self, x):
        """The mean logit of each head over the batch."""
        return [row.mean().detach() for row in rows_of(self.D(x))]

    def terms(self, name):
        real, fake = self.context.real.detach(), self.context.fake.detach()
        pairs = list(zip(real, fake, strict=True))
        match name:
            case "r1":
                return [5 * self.squared_norm(x) for x in real]
            case "r2":
                return [5 * self.squared_norm(y) for y in fake]
            case "r1_r2":
                return [5 * (self.squared_norm(x) + self.squared_norm(y)) for x, y in pairs]
            case "wasserstein_gradient_penalty":
                return [10 * (self.squared_norm(x).sqrt() - 1) ** 2 for x in self.between()]
            case "zero_centered_interpolated":
                return [10 * self.squared_norm(x) for x in self.between()]
            case "dragan":
                return [10 * (self.squared_norm(x).sqrt() - 1) ** 2 for x in self.near()]
            case "logit_drift":
                return [0.001 * self.mean(lambda _, a: a**2, x) for x in real]
            case "consistency":
                return [10 * self.changed(x) for x in real]
            case "balanced_consistency":
                return [10 * self.changed(x) + 10 * self.changed(y) for x, y in pairs]
            case "lecam":
                of_real, of_fake = self.averages(real), self.averages(fake)

                def gaps(head, a, b):
                    return (a - of_fake[head]) ** 2 + (b - of_real[head]) ** 2

                return [0.3 * self.mean(gaps, x, y) for x, y in pairs]
        raise KeyError(name)

    def changed(self, x):
        return self.mean(lambda _, a, b: (a - b) ** 2, x, doubled(x, generator=None))


GRADIENT_PENALTIES = ["r1", "r2", "r1_r2", "wasserstein_gradient_penalty", "zero_centered_interpolated", "dragan"]
OF_LOGITS = ["logit_drift", "consistency", "balanced_consistency", "lecam"]
OF_SAMPLES = ["mode_seeking", "path_length"]  # which do not ask D
OF_FEATURES = ["feature_matching", "layer_matching"]


def test_every_penalty_is_compared():
    penalties = [name for name in REGULARIZERS.names() if isinstance(REGULARIZERS.build(name), Regularizer)]
    assert sorted([*GRADIENT_PENALTIES, *OF_LOGITS, *OF_SAMPLES, *OF_FEATURES]) == sorted(penalties)


def context_of(kind, penalty, concatenate=False):
    G, D = small_pair(kind)
    latent = torch.randn(COUNT, LATENT_DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if "latent" in penalty.gradient_inputs:
        latent.requires_grad_()
    fake = G(latent)
    return StepContext(
        discriminator=D,
        generator=G,
        real=real_samples(COUNT),
        fake=fake if penalty.half == "generator" else fake.detach(),
        latent=latent,
        random=torch.Generator().manual_seed(3),
        gradient_inputs=penalty.gradient_inputs - {"latent"},
        concatenate=concatenate,
        head_weights=HEAD_WEIGHTS.get(kind),
    )


def assert_the_same(ours, theirs, network):
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    parameters = list(network.parameters())
    first, second = (
        torch.autograd.grad(one.mean(), parameters, allow_unused=True, retain_graph=True) for one in (ours, theirs)
    )
    for one, other in zip(first, second, strict=True):
        # a bias of the logits has no influence on gradients: none for one way, and zero for the other
        one, other = (torch.zeros(1, dtype=torch.float64) if x is None else x.flatten() for x in (one, other))
        torch.testing.assert_close(*torch.broadcast_tensors(one, other), rtol=1e-9, atol=1e-11)


@EVERY_KIND
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", GRADIENT_PENALTIES)
def test_a_gradient_penalty_differentiates_the_mean_or_the_sum_of_each_samples_judgements(name, reduction, kind):
    penalty = REGULARIZERS.build(name, reduction=reduction)
    context = context_of(kind, penalty)
    found = penalty(context)
    assert found.shape == (COUNT,)
    expected = torch.stack(ByHand(kind, context, reduction).terms(name))
    assert_the_same(found, expected, context.discriminator)


@EVERY_KIND
@pytest.mark.parametrize("concatenate", [False, True])
@pytest.mark.parametrize("name", OF_LOGITS)
def test_a_penalty_on_logits_is_the_mean_over_each_samples_judgements(name, concatenate, kind):
    penalty = REGULARIZERS.build(name, **({"augment": doubled} if "consistency" in name else {}))
    context = context_of(kind, penalty, concatenate)
    found = penalty(context)
    assert found.shape == (COUNT,)
    assert_the_same(found, torch.stack(ByHand(kind, context, "mean").terms(name)), context.discriminator)


@EVERY_KIND
@pytest.mark.parametrize("name", OF_SAMPLES)
def test_a_penalty_on_samples_does_not_depend_on_what_d_returns(name, kind):
    found = [REGULARIZERS.build(name)(context_of(one, REGULARIZERS.build(name))) for one in (kind, "samples")]
    assert found[0].shape == (COUNT,)
    # the generators are the same, whatever the discriminator is
    assert torch.equal(*found)


@pytest.mark.parametrize("concatenate", [False, True])
def test_features_of_an_answer_are_matched_layer_by_layer(concatenate):
    penalty = FeatureMatching(weight=2.0)
    context = context_of("two heads", penalty, concatenate)
    D, G = context.discriminator, context.generator
    expected = 0
    for ours, theirs in zip(D(context.real).features, D(context.fake).features, strict=True):
        for place in range(ours.shape[1]):
            gap = sum(ours[:, place].detach()) / COUNT - sum(theirs[:, place]) / COUNT
            expected = expected + 2.0 * gap**2
    assert_the_same(penalty(context), expected.expand(COUNT), G)


@pytest.mark.parametrize("kind", ["patches", "frames"])
def test_features_that_d_does_not_have_are_asked_for_in_a_sentence(kind):
    with pytest.raises(BadArgumentsError, match="or return an Answer with features=, for this term, got a Judge"):
        FeatureMatching()(context_of(kind, FeatureMatching()))


def test_lecam_keeps_averages_of_each_head_and_saves_them():
    penalty, (_, D) = Lecam(decay=0.9), small_pair("five heads")
    batches = [(real_samples(COUNT, seed), real_samples(COUNT, seed + 10)) for seed in range(3)]

    def context(real, fake):
        return StepContext(discriminator=D, real=real, fake=fake)

    for real, fake in batches[:2]:
        penalty(context(real, fake))
    assert penalty.real_average.shape == penalty.fake_average.shape == (5,)
    for average, which in ((penalty.real_average, 0), (penalty.fake_average, 1)):
        for head in range(5):
            first, second = (rows_of(D(batch[which]))[head].mean().detach() for batch in batches[:2])
            # the mean of both with the weights 0.9 and 1
            torch.testing.assert_close(average[head], (0.9 * first + second) / 1.9, rtol=1e-12, atol=1e-12)
    other = Lecam(decay=0.9)
    other.load_state_dict(penalty.state_dict())
    assert torch.equal(other(context(*batches[2])), penalty(context(*batches[2])))
    assert torch.equal(other.real_average, penalty.real_average)


def test_the_same_d_with_other_weights_of_heads_has_another_penalty():
    (_, D), real = small_pair("two heads"), real_samples()
    penalties = []
    for weights in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], None):
        penalty = REGULARIZERS.build("logit_drift")
        penalties.append(penalty(StepContext(discriminator=D, real=real, head_weights=weights)))
    torch.testing.assert_close(penalties[0] + penalties[1], penalties[2])
    assert torch.equal(penalties[2], penalties[3])
