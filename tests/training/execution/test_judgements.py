"""Discriminators that judge positions or have heads, in every way in which steps are run."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn.functional import softplus

from gankit import AdversarialTrainer, Answer
from gankit.errors import ShapeError
from gankit.latents import Normal
from gankit.losses import NonSaturating
from gankit.regularizers import R1, FeatureMatching, Lecam, WassersteinGradientPenalty
from gankit.seeds import stream_seed
from gankit.training import Stacked
from gankit.training.step.checks import check_shapes
from tests.judging import CLASSES, KINDS, LATENT_DIM, SHAPE, Judge, real_samples, small_pair
from tests.training.steps import assert_the_same_run

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
TWO_KINDS = pytest.mark.parametrize("kind", ["patches", "two heads"])
STEPS = 4
adam = partial(torch.optim.Adam, lr=1e-2, eps=1e-4)


def batches(dtype=torch.float64, seed=1):
    return [real_samples(seed=seed + step, dtype=dtype) for step in range(STEPS)]


def make(networks, loss=None, seed=0, **options):
    G, D = networks
    return AdversarialTrainer(
        G,
        D,
        loss or NonSaturating(),
        latent=Normal(LATENT_DIM),
        generator_optimizer=adam(G.parameters()),
        discriminator_optimizer=adam(D.parameters()),
        seed=seed,
        **options,
    )


def train_by_hand(G, D, fakes_of_g):
    """Train with the non-saturating loss of each head and lazy R1, in plain PyTorch."""
    optimizers = {D: adam(D.parameters()), G: adam(G.parameters())}
    noise = torch.Generator().manual_seed(stream_seed(0, "training noise"))

    def fakes():
        return G(torch.randn(5, LATENT_DIM, generator=noise).double())

    def heads(x):
        returned = D(x)
        return list(returned.heads) if isinstance(returned, Answer) else [returned]

    def gradients(loss, network):
        return torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)

    def update(network, gradients):
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizers[network].step()

    for step, real in enumerate(batches()):
        x, shared = real.clone().requires_grad_(), fakes()
        reals, others = heads(x), heads(shared.detach())
        each = [(softplus(-a.flatten()) + softplus(b.flatten())).mean() for a, b in zip(reals, others, strict=True)]
        loss = sum(each[1:], each[0])
        if step % 2 == 0:
            per_sample = [one.flatten(1).mean(1) if one.ndim > 1 else one for one in reals]
            (slope,) = torch.autograd.grad(sum(per_sample[1:], per_sample[0]).sum(), x, create_graph=True)
            loss = loss + (5.0 * slope.square().flatten(1).sum(1) * 2).mean()
        of_d = gradients(loss, D)
        if fakes_of_g != "those of D, before its update":
            update(D, of_d)
        each = [softplus(-one.flatten()).mean() for one in heads(fakes() if fakes_of_g == "fresh" else shared)]
        of_g = gradients(sum(each[1:], each[0]), G)
        if fakes_of_g == "those of D, before its update":
            update(D, of_d)
        update(G, of_g)


FAKES_OF_G = {
    "fresh": {},
    "those of D": {"share_generator_forward": True},
    "those of D, before its update": {"simultaneous_updates": True},
}


@EVERY_KIND
@pytest.mark.parametrize("fakes_of_g", FAKES_OF_G)
def test_steps_are_those_of_a_loop_by_hand_to_the_last_bit(kind, fakes_of_g):
    trainer = make(small_pair(kind), regularizers=[R1(weight=10.0, every=2)], **FAKES_OF_G[fakes_of_g])
    trainer.fit(batches(), steps=STEPS)
    G, D = small_pair(kind)
    train_by_hand(G, D, fakes_of_g)
    for ours, theirs in ((trainer.generator, G), (trainer.discriminator, D)):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name


def parts():
    return [R1(every=2), WassersteinGradientPenalty(), Lecam()]


def assert_compiled_is_eager(kind):
    eager, compiled = (
        make(small_pair(kind), execution=execution, regularizers=parts()).fit(batches(), steps=STEPS)
        for execution in ("eager", "compile")
    )
    assert compiled.explain().mode == "compile"
    assert compiled.explain().programs >= 2
    assert_the_same_run(eager, compiled, rtol=1e-9, atol=1e-12)


@EVERY_KIND
def test_traced_halves_are_eager_ones(traced_only, kind):
    assert_compiled_is_eager(kind)


@pytest.mark.slow
def test_halves_that_inductor_compiles_are_eager_ones():
    assert_compiled_is_eager("two heads")


@TWO_KINDS
@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_concatenated_passes_are_two_passes(traced_only, kind, execution):
    once, twice = (
        make(
            small_pair(kind), concatenate_discriminator_passes=concatenate, execution=execution, regularizers=parts()
        ).fit(batches(), steps=STEPS)
        for concatenate in (True, False)
    )
    assert_the_same_run(twice, once, rtol=1e-9, atol=1e-12)


@EVERY_KIND
def test_each_replica_is_the_model_of_its_own_seed(kind):
    def penalties():
        return [*parts(), *([FeatureMatching()] if "heads" in kind else [])]

    pairs = [small_pair(kind, seed=seed) for seed in range(2)]
    stacks = [Stacked(alike) for alike in zip(*pairs, strict=True)]
    data = [torch.stack(both) for both in zip(batches(), batches(seed=20), strict=True)]
    together = make(stacks, regularizers=penalties()).fit(data, steps=STEPS)
    for index, first in enumerate((1, 20)):
        alone = make(small_pair(kind, seed=index), seed=index, regularizers=penalties())
        alone.fit(batches(seed=first), steps=STEPS)
        assert together.metrics.keys() == alone.metrics.keys()
        for name, value in alone.metrics.items():
            torch.testing.assert_close(together.metrics[name][index], value, rtol=1e-9, atol=1e-11, msg=name)
        for ours, theirs in ((together.generator, alone.generator), (together.discriminator, alone.discriminator)):
            for name, value in theirs.state_dict().items():
                torch.testing.assert_close(ours.state_dict()[name][index], value, rtol=1e-9, atol=1e-11, msg=name)


@TWO_KINDS
@pytest.mark.parametrize("condition", ["labels", "pictures"])
def test_replicas_of_conditional_models_are_the_models_alone(kind, condition):
    planes = CLASSES if condition == "labels" else 1
    conditions = [
        torch.arange(5).add(seed) % CLASSES if condition == "labels" else real_samples(seed=7 + seed)
        for seed in range(2)
    ]
    pairs = [small_pair(kind, planes, seed=seed) for seed in range(2)]
    together = make([Stacked(alike) for alike in zip(*pairs, strict=True)], regularizers=[R1(), Lecam()])
    real = [real_samples(seed=1 + seed) for seed in range(2)]
    together.fit([(torch.stack(real), torch.stack(conditions))], steps=1)
    for index in range(2):
        alone = make(small_pair(kind, planes, seed=index), seed=index, regularizers=[R1(), Lecam()])
        alone.fit([(real[index], conditions[index])], steps=1)
        torch.testing.assert_close(
            {name: value[index] for name, value in together.metrics.items()}, alone.metrics, rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("kind", ["frames", "two heads"])
def test_as_many_replicas_as_samples_are_not_confused_with_them(kind):
    """Three replicas with three samples each, where a shape alone would not say which is which."""
    stacks = [Stacked(alike) for alike in zip(*[small_pair(kind, seed=seed) for seed in range(3)], strict=True)]
    together = make(stacks).fit([torch.stack([real_samples(3, seed) for seed in range(3)])], steps=1)
    for index in range(3):
        alone = make(small_pair(kind, seed=index), seed=index).fit([real_samples(3, index)], steps=1)
        torch.testing.assert_close(
            {name: value[index] for name, value in together.metrics.items()}, alone.metrics, rtol=1e-9, atol=1e-11
        )


@TWO_KINDS
@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_bfloat16_widens_every_head(traced_only, kind, execution):
    wide, narrow = (
        make(small_pair(kind, dtype=torch.float32), precision=precision, execution=execution, regularizers=parts()).fit(
            batches(torch.float32), steps=STEPS
        )
        for precision in ("float32", "bfloat16")
    )
    assert narrow.explain().mode == execution
    for name, value in narrow.metrics.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, wide.metrics[name], rtol=0.1, atol=0.1, msg=name)


@TWO_KINDS
@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_a_loaded_state_continues_to_the_last_bit(traced_only, kind, execution):
    whole = make(small_pair(kind), execution=execution, regularizers=parts()).fit(batches(), steps=STEPS)
    first = make(small_pair(kind), execution=execution, regularizers=parts()).fit(batches(), steps=2)
    second = make(small_pair(kind, seed=9), execution=execution, regularizers=parts())
    second.load_state_dict(first.state_dict())
    second.fit(batches()[2:], steps=STEPS)
    assert_the_same_run(whole, second)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's compiler looks at it
@TWO_KINDS
def test_a_compiled_discriminator_hands_its_answer_on(kind):
    (G, D), (_, plain) = small_pair(kind), small_pair(kind)
    compiled = torch.compile(D, backend="eager")
    trained = make((G, compiled)).fit(batches(), steps=2)
    alone = make((small_pair(kind)[0], plain)).fit(batches(), steps=2)
    torch.testing.assert_close(trained.metrics, alone.metrics, rtol=1e-12, atol=1e-12)


@EVERY_KIND
def test_shapes_are_checked_before_the_first_batch(kind):
    assert check_shapes(*small_pair(kind), (LATENT_DIM,), dtype=torch.float64) == SHAPE


def test_an_answer_of_another_batch_is_refused_at_construction():
    class FirstSample(Judge):
        def forward(self, x, condition=None):
            answer = super().forward(x, condition)
            return Answer((answer.heads[0], answer.heads[1][:1]))

    G, _ = small_pair("two heads")
    with pytest.raises(ShapeError, match=r"head 1 of .* Answer must have the shape \(2, \*positions\)"):
        make((G, FirstSample("two heads")))
