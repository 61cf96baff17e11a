"""What a step costs, without a clock: operators on the CPU, passes through the networks, numbers read on the host."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from gankit.answers import Judgements
from gankit.presets import vanilla_mnist
from gankit.regularizers import R1, Lecam, WassersteinGradientPenalty
from tests.training.operators import READS, Operators

CASES = {
    "plain": {},
    "r1": {"regularizers": [R1()]},
    "wgan_gp": {"loss": "wasserstein", "regularizers": [WassersteinGradientPenalty()]},
    "shared generator forward": {"share_generator_forward": True},
    "concatenated discriminator passes": {"concatenate_discriminator_passes": True},
    "relativistic average": {"loss": "relativistic_average"},
    "averaged generator": {"averaging_decay": 0.99},
}
EVERY_CASE = pytest.mark.parametrize("case", CASES)
# operators in one step, by the version of torch they were counted with; for one logit per sample, they are as many as
# before gankit could fold judgements by position and weight several heads
OPERATORS = {
    "2.14": {
        "plain": 291,
        "r1": 358,
        "wgan_gp": 399,
        "shared generator forward": 264,
        "concatenated discriminator passes": 242,
        "relativistic average": 322,
        "averaged generator": 296,
    }
}
# passes through G and through D in one step
PASSES = {
    "plain": (2, 3),
    "r1": (2, 3),
    "wgan_gp": (2, 4),
    "shared generator forward": (1, 3),
    "concatenated discriminator passes": (2, 2),
    "relativistic average": (2, 4),
    "averaged generator": (2, 3),
}


def second_step(**options):
    """Return what the second step dispatches. The first one also creates the optimizers' states."""
    trainer = vanilla_mnist(device="cpu", **options)
    batch = torch.rand(4, 1, 28, 28)
    trainer.step(batch)
    with Operators() as operators:
        trainer.step(batch)
    return operators.counts


def test_the_counter_sees_forward_and_backward_passes_and_reads():
    x = torch.ones(2, requires_grad=True)
    with Operators() as operators:
        (x * x).sum().backward()
        x.grad.max().item()
    assert operators.counts[torch.ops.aten.mul.Tensor] == 3  # one forward, two backward
    assert operators.counts[torch.ops.aten._local_scalar_dense.default] == 1


@EVERY_CASE
def test_a_step_dispatches_no_more_operators_than_it_did(case):
    version = ".".join(torch.__version__.split(".")[:2])
    dispatched = second_step(**CASES[case]).total()
    if version in OPERATORS:
        assert dispatched == OPERATORS[version][case]
    else:  # torch's own operators come and go by a few with its versions
        assert dispatched <= 1.1 * max(counts[case] for counts in OPERATORS.values())


@pytest.mark.parametrize("batch_shape", [(4,), (3, 4)], ids=["one model", "replicas"])
def test_one_logit_per_sample_is_read_without_an_operator(batch_shape):
    logits = torch.randn(batch_shape)
    with Operators() as operators:
        judgements = Judgements(logits, batch_shape)
        heads = judgements.heads
        each = judgements.per_sample()
    assert heads[0] is logits
    assert each is logits
    assert judgements.answer.heads == (logits,)
    assert not operators.counts


@EVERY_CASE
def test_a_step_passes_through_the_networks_as_often_as_it_must(case):
    trainer = vanilla_mnist(device="cpu", **CASES[case])
    passes = Counter()
    trainer.generator.register_forward_hook(lambda *_: passes.update("G"))
    trainer.discriminator.register_forward_hook(lambda *_: passes.update("D"))
    for _ in range(2):
        passes.clear()
        trainer.step(torch.rand(4, 1, 28, 28))
        assert (passes["G"], passes["D"]) == PASSES[case]


def test_more_updates_of_the_discriminator_take_a_pass_of_g_and_two_of_d_each():
    trainer = vanilla_mnist(device="cpu", discriminator_steps=3)
    passes = Counter()
    trainer.generator.register_forward_hook(lambda *_: passes.update("G"))
    trainer.discriminator.register_forward_hook(lambda *_: passes.update("D"))
    trainer.step(*torch.rand(3, 4, 1, 28, 28))
    assert passes == {"G": 4, "D": 7}


@pytest.mark.parametrize(
    "options",
    [
        *CASES.values(),
        {"averaging_decay": 0.9, "max_gradient_norm": 1.0, "regularizers": [Lecam()]},
        {"discriminator_warmup_steps": 5},
        {"replicas": 2, "max_gradient_norm": 1.0, "averaging_decay": 0.9},
    ],
    ids=[*CASES, "parts", "warm-up", "replicas"],
)
def test_a_step_reads_no_number_on_the_host(options):
    replicas = options.get("replicas")
    trainer = vanilla_mnist(device="cpu", **options)
    batch = torch.rand(*[replicas] * (replicas is not None), 4, 1, 28, 28)
    trainer.step(batch)
    with Operators() as operators:
        trainer.step(batch)
    assert not READS & operators.counts.keys()
