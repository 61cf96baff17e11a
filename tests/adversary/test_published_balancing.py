"""The numbers that the authors' code gives for the small model of `small_model.py`, in float64 on a CPU.

Each number was computed outside this repository: the authors' files were imported unchanged, with torch 2.14.1 and
Python 3.11, and given the tensors of `small_model.py`. The settings stand above the numbers. A gradient is that of the
last layer, given by its norm, its first and its last number.

- CompVis/taming-transformers, commit 3ba01b241669f5ade541ce990f7650a3b8f65318, taming/modules/losses/vqperceptual.py
- facebookresearch/encodec, commit 0e2d0aed29362c8e8f52494baf3e6f99056b214f, encodec/balancer.py
- ByteDance-Seed/Adversarial-Flow-Models, commit 519601d0bc37b06ad0109cc76647b357c93a16fc, grad_norm.py
"""

from __future__ import annotations

import pytest
import torch

from gankit import Balancer, balanced_weight
from gankit.losses import Hinge, NonSaturating
from tests.adversary.small_model import judged, last_layer, pictures, terms


def told(gradient):
    return [gradient.norm().item(), gradient.flatten()[0].item(), gradient.flatten()[-1].item()]


def close(numbers):
    return pytest.approx(numbers, rel=1e-9)


def test_the_weight_is_that_of_taming():
    # VQLPIPSWithDiscriminator.calculate_adaptive_weight(nll_loss=l1, g_loss=adversarial, last_layer=weight) with
    # disc_weight=0.8, and the gradient of l1 + weight * adversarial
    weight = last_layer()
    losses = terms(*pictures(weight))
    factor = 0.8 * balanced_weight(losses["l1"], losses["adversarial"], at=weight)
    assert factor.item() == close(4.81842844584)
    (losses["l1"] + factor * losses["adversarial"]).backward()
    assert told(weight.grad) == close([0.907305026049, 0.221992873538, 0.0163220336717])


# taming's hinge_d_loss and vanilla_d_loss, with the gradient at the logits of the fakes
@pytest.mark.parametrize(
    ("loss", "value", "gradient"),
    [
        (Hinge(), 1.03897395154, [0.0576848879369, 0.00694444444444, 0.00694444444444]),
        (NonSaturating(), 0.789137070167, [0.0275809987939, 0.00435777782256, 0.00346024603378]),
    ],
    ids=["hinge", "vanilla"],
)
def test_half_of_the_discriminators_loss_is_that_of_taming(loss, value, gradient):
    samples, target = pictures(last_layer())
    fake = judged(samples.detach()).requires_grad_()
    real = judged(target)
    half = 0.5 * loss.discriminator_loss(real.flatten(), fake.flatten()).mean()
    assert half.item() == close(value)
    assert told(torch.autograd.grad(half, fake)[0]) == close(gradient)


# Balancer(weights, per_batch_item=..., ema_decay=0.9, total_norm=2.0, monitor=True), called in three steps with an
# output of three dimensions, (3, 2, 35), because its norm over more fails in torch 2.14: gradients, and ratios at last
ENCODEC = {
    True: (
        [
            [23.3818189721, 2.82961353303, 0.732529155384],
            [21.5881799023, 2.84493388482, 0.844966158672],
            [21.485734064, 2.74317104215, 0.852584416853],
        ],
        [0.00559904566035, 0.0339694805443, 0.960431456566],
    ),
    False: (
        [
            [13.4922737151, 1.63286394178, 0.422705317488],
            [12.4573173377, 1.64172321315, 0.487595491081],
            [12.3981438197, 1.58298446622, 0.491966439785],
        ],
        [0.0055960607715, 0.0339513719082, 0.96045255661],
    ),
}
WEIGHTS = {"l1": 0.1, "adversarial": 3.0, "feature": 3.0}


@pytest.mark.parametrize("per_batch_item", [True, False])
def test_gradients_and_shares_are_those_of_encodec(per_batch_item):
    balancer = Balancer(WEIGHTS, per_batch_item=per_batch_item, decay=0.9, total_norm=2.0).double()
    gradients, shares = ENCODEC[per_batch_item]
    for step, gradient in enumerate(gradients):
        weight = last_layer()
        output, target = pictures(weight, step)
        balancer(terms(output, target), output).backward()
        assert told(weight.grad) == close(gradient)
    assert [share.item() for share in balancer.metrics.values()] == pytest.approx(shares, rel=1e-6)


def test_a_term_that_starts_later_is_balanced_as_in_encodec():
    # Balancer(weights, ema_decay=0.9), the first step without the adversarial term
    balancer = Balancer(WEIGHTS, decay=0.9).double()
    expected = [[23.2848506345, 2.76087017243, 0.638547470923], [10.7940899512, 1.42246694241, 0.422483079336]]
    for step, gradient in enumerate(expected):
        weight = last_layer()
        output, target = pictures(weight, step)
        losses = terms(output, target)
        if step == 0:
            del losses["adversarial"]
        balancer(losses, output).backward()
        assert told(weight.grad) == close(gradient)


def test_without_past_norms_the_gradient_is_that_of_adversarial_flow_models():
    # GradientNormalization(ema_decay=0.0) applied to the output before the adversarial term
    weight = last_layer()
    output, target = pictures(weight)
    root = output.numel() ** 0.5  # which multiplies the norm before its eps, 1e-8, is added
    balancer = Balancer({"term": 1.0}, total_norm=1 / root, decay=0, per_batch_item=False, epsilon=1e-8 / root)
    balancer.double()
    balancer({"term": terms(output, target)["adversarial"]}, output).backward()
    assert told(weight.grad) == close([0.0217641732374, 0.000951186049716, 0.00338271959092])
