"""`Adversary` gives the losses and gradients of other projects' own code, on the same discriminator and samples.

The expected numbers were computed once with the code of each project, in float64 on the CPU with torch 2.14.1, on
`Discriminator` and the samples below: D's loss; the norm of its gradient for `first.weight`, and the entry
[1, 0, 2, 1]; G's loss; the norm of its gradient for the fakes, and the entry [2, 1, 3, 4]. Each row states the
repository, the commit and the functions that were called.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import Spec
from gankit.adversary import Adversary
from gankit.answers import Answer
from gankit.losses import Minimax, RelativisticAverage


def filled(*shape, phase):
    count = torch.Size(shape).numel()
    return torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + phase).view(shape)


class Discriminator(nn.Module):
    """Judges the 4 x 3 positions of a map, and with `heads` also 3 frames; its weights are those of a formula."""

    def __init__(self, heads):
        super().__init__()
        self.first, self.map, self.frames = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, (2, 1)), nn.Conv2d(3, 1, 3)
        self.heads = heads
        for phase, parameter in enumerate(self.double().parameters()):
            parameter.data = filled(*parameter.shape, phase=phase)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        return Answer(heads=(self.map(hidden), self.frames(hidden).flatten(1))) if self.heads else self.map(hidden)


REAL = filled(3, 2, 7, 5, phase=0.3)
FAKE = torch.cos(2 * REAL) - 0.4


class TamingVanilla(Minimax):
    """taming's `vanilla`: D's half is minimax's, G's half is that of Wasserstein."""

    def generator_loss(self, fake_logits, real_logits=None):
        return -fake_logits


def squashed(answer):
    return Answer(heads=tuple(torch.tanh(head) for head in answer.heads))


TWICE = {"weight": 2.0, "discriminator_weight": 2.0}
HALF = {"weight": 0.5, "discriminator_weight": 0.5}
MEAN = {"head_weights": [0.5, 0.5]}

REFERENCES = {
    # CompVis/taming-transformers 3ba01b2, taming/modules/losses/vqperceptual.py: hinge_d_loss, and -mean(logits)
    "taming-hinge": (
        {"loss": "hinge", "discriminator_weight": 0.5},
        (1.07798579, 0.912555636, 0.00015659902, 0.232165712, 0.28063407, -0.000128934459),
    ),
    # the same file: vanilla_d_loss, and -mean(logits)
    "taming-vanilla": (
        {"loss": TamingVanilla(), "discriminator_weight": 0.5},
        (0.801069958, 0.551021932, -0.00909546767, 0.232165712, 0.28063407, -0.000128934459),
    ),
    # jik876/hifi-gan 4769534, models.py: discriminator_loss and generator_loss of both heads, flattened
    "hifi-gan": (
        {"loss": "least_squares", **TWICE},
        (29.1064186, 12.3651233, -1.35422265, 15.5754475, 31.0595593, 0.0838353889),
    ),
    # EnCodec's training code, facebookresearch/audiocraft 896ec7c, audiocraft/adversarial/losses.py: train_adv and
    # forward of AdversarialLoss with the criteria "hinge", normalize=True, as config/solver/compression/default.yaml
    "encodec-hinge": (
        {"loss": "hinge", **MEAN},
        (2.88719034, 0.999110877, 0.0156710192, 0.368685573, 1.37657036, -0.00394433029),
    ),
    # the same with the criteria "mse"
    "encodec-mse": (
        {"loss": "least_squares", **MEAN, **TWICE},
        (14.5532093, 6.18256166, -0.677111326, 7.78772354, 15.5297797, 0.0419176944),
    ),
    # XPixelGroup/BasicSR 8d56e3a: one call of ESRGANModel.optimize_parameters with GANLoss("vanilla") alone and
    # learning rates of 0; D's loss is l_d_real + l_d_fake
    "esrgan": (
        {"loss": Spec("relativistic_average", detach_means=True), **HALF},
        (0.811500347, 0.561192863, -0.0135527671, 0.735863014, 0.119364059, -7.0570481e-05),
    ),
    # MONAI 1.6.1 (Project-MONAI/MONAI 7af4921), PatchAdversarialLoss(criterion="bce") on the list of both heads; D's
    # loss is the sum of its two calls
    "monai-bce": (
        {"loss": "non_saturating", **MEAN},
        (2.31749992, 0.733028513, 0.0103398318, 1.39151668, 1.16961952, 0.00078524812),
    ),
    # the same with criterion="least_squares", no_activation_leastsq=True
    "monai-least-squares": (
        {"loss": "least_squares", **MEAN, **TWICE},
        (14.5532093, 6.18256166, -0.677111326, 7.78772373, 15.5297797, 0.0419176944),
    ),
}
# the same with criterion="hinge", which takes the tanh of the logits before the hinge
MONAI_HINGE = (1.86370659, 0.614838144, 0.00424925244, 1.11820289, 0.539334896, 0.00152186196)


def numbers(adversary):
    D, fake = adversary.discriminator, FAKE.clone().requires_grad_()
    of_G = adversary.generator_loss(fake=fake, real=REAL)
    of_G.backward()
    of_D = adversary.discriminator_loss(real=REAL, fake=fake)
    of_D.backward()
    g, f = D.first.weight.grad, fake.grad
    return [one.item() for one in (of_D, g.norm(), g[1, 0, 2, 1], of_G, f.norm(), f[2, 1, 3, 4])]


@pytest.mark.parametrize("name", REFERENCES)
def test_losses_and_gradients_equal_those_of_other_projects(name):
    arguments, expected = REFERENCES[name]
    heads = name.startswith(("hifi", "encodec", "monai"))
    assert numbers(Adversary(Discriminator(heads), **arguments)) == pytest.approx(expected, rel=1e-6, abs=0)


def test_monai_hinge_is_the_hinge_of_the_tanh_and_its_generator_loss_is_greater_by_one():
    ours = numbers(Adversary(Discriminator(heads=True), loss="hinge", answer=squashed, **MEAN))
    ours[3] += 1
    assert ours == pytest.approx(MONAI_HINGE, rel=1e-6, abs=0)


def test_detached_means_change_the_direction_and_the_norm_of_the_discriminator_gradient():
    # the page about losses states these figures
    gradients = []
    for detach in (False, True):
        D = Discriminator(heads=False)
        Adversary(D, loss=RelativisticAverage(detach_means=detach)).discriminator_loss(real=REAL, fake=FAKE).backward()
        gradients.append(torch.cat([one.grad.flatten() for one in (*D.first.parameters(), *D.map.parameters())]))
    full, detached = gradients
    cosine = torch.cosine_similarity(full, detached, 0).item()
    assert (cosine, (full.norm() / detached.norm()).item()) == pytest.approx((0.981, 1.732), abs=5e-4)
