"""Losses with one mistake each, and the rule that each breaks."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F

from gankit.losses import Minimax, NonSaturating
from gankit.protocols import check_same_batch


class SwappedTargets(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        return super().discriminator_loss(fake_logits, real_logits)


class GeneratorDescendsTheWrongWay(Minimax):
    def generator_loss(self, fake_logits, real_logits=None):
        return F.softplus(fake_logits)


class NonSaturatingThatSaturates(NonSaturating):
    def generator_loss(self, fake_logits, real_logits=None):
        return -F.softplus(fake_logits)


class NonSaturatingWithEpsilon(NonSaturating):
    """The epsilon keeps the value finite but removes the gradient."""

    def generator_loss(self, fake_logits, real_logits=None):
        return -torch.log(fake_logits.sigmoid() + 1e-8)


class SigmoidBeforeLogits(Minimax):
    """BCEWithLogits of values that are probabilities already."""

    def discriminator_loss(self, real_logits, fake_logits):
        return super().discriminator_loss(real_logits.sigmoid(), fake_logits.sigmoid())


class CrossEntropyOfSigmoid(Minimax):
    """BCELoss after a sigmoid: correct on paper, but without a gradient in float32."""

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        real, fake = real_logits.sigmoid(), fake_logits.sigmoid()
        ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
        return F.binary_cross_entropy(real, ones, reduction="none") + F.binary_cross_entropy(
            fake, zeros, reduction="none"
        )


class HingeOfSigmoid(Minimax):
    log_odds: ClassVar[bool] = False

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        return F.relu(1 - real_logits.sigmoid()) + F.relu(1 + fake_logits.sigmoid())


class LogOfSigmoid(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        return -torch.log(real_logits.sigmoid()) - torch.log(1 - fake_logits.sigmoid())


class HalfPrecision(Minimax):
    """Squares logits in float16, whose largest number is 65504."""

    log_odds: ClassVar[bool] = False

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        loss = (real_logits.half() - 1).square() + fake_logits.half().square()
        return loss.to(real_logits.dtype)


class Reduced(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        return super().discriminator_loss(real_logits, fake_logits).mean()


class Unsqueezed(Minimax):
    def generator_loss(self, fake_logits, real_logits=None):
        return super().generator_loss(fake_logits).unsqueeze(-1)


class FixedType(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        return super().discriminator_loss(real_logits.float(), fake_logits.float())


class Broadcasting(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        return F.softplus(-real_logits) + F.softplus(fake_logits)


class InPlace(Minimax):
    def generator_loss(self, fake_logits, real_logits=None):
        return F.softplus(fake_logits.neg_())


class HiddenItem(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        scale = max(1.0, real_logits.abs().max().item() / 1e6)
        return super().discriminator_loss(real_logits, fake_logits) * scale


class HiddenIf(Minimax):
    def generator_loss(self, fake_logits, real_logits=None):
        if fake_logits.isnan().any():
            raise ValueError("NaN")
        return super().generator_loss(fake_logits)


class FixedDevice(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        targets = torch.ones(real_logits.shape, dtype=real_logits.dtype, device="cpu")
        return super().discriminator_loss(real_logits * targets, fake_logits)


class NoisyLabels(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        noise = 0.1 * torch.rand(real_logits.shape)
        return super().discriminator_loss(real_logits, fake_logits) + noise.to(real_logits) * real_logits


class RunningSum(Minimax):
    def discriminator_loss(self, real_logits, fake_logits):
        return super().discriminator_loss(real_logits, fake_logits).cumsum(-1)


class MeanOverTheWrongDimension(Minimax):
    """A relativistic average that is correct for (N,) but mixes the replicas of (R, N)."""

    log_odds: ClassVar[bool] = False

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        return F.softplus(fake_logits.mean(0) - real_logits) + F.softplus(fake_logits - real_logits.mean(0))


class DetachedMean(Minimax):
    log_odds: ClassVar[bool] = False

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        return F.softplus(fake_logits.mean(-1, keepdim=True).detach() - real_logits) + F.softplus(fake_logits)


class WithoutGraph(Minimax):
    @torch.no_grad()
    def generator_loss(self, fake_logits, real_logits=None):
        return super().generator_loss(fake_logits)


class NeedsRealAfterAll(Minimax):
    def generator_loss(self, fake_logits, real_logits=None):
        return F.softplus(real_logits - fake_logits)


class NeedsNoRealAfterAll(Minimax):
    needs_real_logits: ClassVar[bool] = True


class ClaimsLogOdds(Minimax):
    """The Wasserstein loss, whose logits are not log-odds."""

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        return fake_logits - real_logits


class NoGeneratorLoss:
    needs_real_logits = False

    def discriminator_loss(self, real_logits, fake_logits):
        return fake_logits - real_logits


WRONG_LOSSES = [
    (NoGeneratorLoss(), "protocol"),
    (Minimax, "protocol"),
    (NeedsRealAfterAll(), "real-logits"),
    (NeedsNoRealAfterAll(), "real-logits"),
    (Reduced(), "not-reduced"),
    (Unsqueezed(), "shape"),
    (FixedType(), "dtype"),
    (InPlace(), "input-unchanged"),
    (Broadcasting(), "no-broadcast"),
    (HiddenItem(), "no-host-reads"),
    (HiddenIf(), "no-host-reads"),
    (FixedDevice(), "device"),
    (NoisyLabels(), "no-global-random"),
    (RunningSum(), "batch-order"),
    (MeanOverTheWrongDimension(), "replicas"),
    (LogOfSigmoid(), "finite"),
    (HalfPrecision(), "finite"),
    (DetachedMean(), "differentiable"),
    (WithoutGraph(), "differentiable"),
    (SwappedTargets(), "discriminator-direction"),
    (GeneratorDescendsTheWrongWay(), "generator-direction"),
    (SigmoidBeforeLogits(), "logits"),
    (CrossEntropyOfSigmoid(), "logits"),
    (HingeOfSigmoid(), "logits"),
    (NonSaturatingThatSaturates(), "non-saturating"),
    (NonSaturatingWithEpsilon(), "non-saturating"),
    (ClaimsLogOdds(), "log-odds"),
]
