"""Regularizers with one mistake each, and the rule that each breaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch.autograd import grad

from gankit.regularizers import R1


@dataclass(frozen=True)
class Penalty:
    """R1, the base of the mistakes below."""

    weight: float = 10.0
    every: int = 1
    half: ClassVar[str] = "discriminator"
    gradient_inputs: ClassVar[frozenset[str]] = frozenset({"real"})

    def __call__(self, context):
        return self.weight / 2 * self.squares(self.gradient(context))

    def gradient(self, context):
        return grad(context.logits("real").sum(), context.real, create_graph=True)[0]

    def squares(self, gradient):
        return gradient.square().flatten(1).sum(1)


class OneNumber(Penalty):
    def __call__(self, context):
        return super().__call__(context).mean()


class WidthLeft(Penalty):
    def squares(self, gradient):
        return gradient.square().flatten(2).sum(2) if gradient.ndim > 2 else gradient.square().sum(1)


class NormOfEachPixel(Penalty):
    def squares(self, gradient):
        norms = gradient.square().sum(1).add(1e-12).sqrt()
        return (norms - 1).square().view(len(gradient), -1).mean(1)


class NormOfTheBatch(Penalty):
    def squares(self, gradient):
        return gradient.norm().square().expand(len(gradient))


class ForgottenCreateGraph(Penalty):
    def gradient(self, context):
        return grad(context.logits("real").sum(), context.real, retain_graph=True)[0]


class BackwardInsteadOfGrad(Penalty):
    def gradient(self, context):
        context.logits("real").sum().backward(create_graph=True)
        return context.real.grad


class LeavesEvalMode(Penalty):
    def __call__(self, context):
        context.discriminator.eval()
        return super().__call__(context)


class ChangesRequiresGradOfTheCaller(Penalty):
    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def gradient(self, context):
        real = context.real.requires_grad_()
        return grad(context.discriminate(real).sum(), real, create_graph=True)[0]


class Undeclared(Penalty):
    gradient_inputs: ClassVar[frozenset[str]] = frozenset()


class ClampsInPlace(Penalty):
    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context):
        return context.discriminate(context.real.clamp_(-1, 1)).square() * self.weight


class RootAtZero(Penalty):
    def squares(self, gradient):
        return (super().squares(gradient).sqrt() - 1).square()


class HalfPrecisionGradient(Penalty):
    def squares(self, gradient):
        return gradient.half().square().flatten(1).sum(1).float()


class WeightLeftOut(Penalty):
    def __call__(self, context):
        return super().__call__(context) / self.weight


class WeightSquared(Penalty):
    def __call__(self, context):
        return super().__call__(context) * self.weight


class ThreeChannels(Penalty):
    def squares(self, gradient):
        return gradient.view(len(gradient), 3, -1).square().sum(dim=(1, 2))


class PicturesOnly(Penalty):
    def squares(self, gradient):
        return gradient.square().sum(dim=(1, 2, 3))


class IgnoresTheCondition(Penalty):
    def gradient(self, context):
        return grad(context.discriminator(context.real).sum(), context.real, create_graph=True)[0]


class HiddenItemInPenalty(Penalty):
    def __call__(self, context):
        return super().__call__(context) + 0 * context.real.abs().max().item()


class FixedDeviceInPenalty(Penalty):
    def squares(self, gradient):
        return super().squares(gradient) + torch.zeros(len(gradient), device="cpu")


class UnwidenedLogits(Penalty):
    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context):
        arguments = (context.real,) if context.condition is None else (context.real, context.condition)
        return self.weight * context.discriminator(*arguments).square()


class FakesWithAGraph(Penalty):
    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context):
        arguments = (context.latent,) if context.condition is None else (context.latent, context.condition)
        return self.weight * context.discriminate(context.generator(*arguments)).square()


class Interpolated(Penalty):
    """WGAN-GP without its square root, the base of the mistakes below."""

    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def share(self, context):
        return context.uniform_like(context.real.flatten(1)[:, :1]).view(-1, *[1] * (context.real.ndim - 1))

    def gradient(self, context):
        between = torch.lerp(context.fake, context.real, self.share(context)).detach().requires_grad_()
        return grad(context.discriminate(between).sum(), between, create_graph=True)[0]


class SharedInterpolationWeight(Interpolated):
    def share(self, context):
        return context.uniform_like(context.real.flatten()[:1]).squeeze()


class InterpolationWeightOfEachPixel(Interpolated):
    def share(self, context):
        return context.uniform_like(context.real)


class GlobalRandomState(Interpolated):
    def share(self, context):
        return torch.rand(len(context.real), *[1] * (context.real.ndim - 1)).to(context.real.device)


@dataclass(frozen=True)
class GeneratorOfItsOwn(Interpolated):
    random: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def share(self, context):
        share = torch.rand(len(context.real), *[1] * (context.real.ndim - 1), generator=self.random)
        return share.to(context.real.device)


class GeneratorTerm(Penalty):
    half: ClassVar[str] = "generator"
    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context):
        return self.weight * context.logits("fake").square()


class DetachedGeneratorTerm(GeneratorTerm):
    def __call__(self, context):
        return self.weight * context.discriminate(context.fake.detach()).square()


class ThawedDiscriminator(GeneratorTerm):
    def __call__(self, context):
        context.discriminator.requires_grad_(True)
        return self.weight * context.discriminate(context.fake).square()


class WeightOfEachJudgement(Interpolated):
    """Draws one interpolation weight for each logit, of which there are more than samples."""

    def share(self, context):
        share = context.uniform_like(context.logits("real").detach())
        return share.view(-1, *[1] * (context.real.ndim - 1))


class OneLogitPerSample(Penalty):
    """Expects as many logits as samples."""

    def __call__(self, context):
        return super().__call__(context) + 0 * context.logits("real")


class PositionsFirst(Penalty):
    """Averages over positions as if they came before the samples."""

    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context):
        return self.weight * context.logits("real").view(-1, context.batch_size).mean(0).square()


class OneLength(Penalty):
    """Expects heads of one length."""

    gradient_inputs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, context):
        logits = torch.stack([one.view(context.batch_size, -1) for one in context.heads("real")])
        return self.weight * logits.square().mean((0, 2))


class NoHalf(Penalty):
    half: ClassVar[str] = "critic"


WRONG_REGULARIZERS = [
    (NoHalf(), "protocol"),
    (R1, "protocol"),
    (Penalty(every=0), "protocol"),
    (Undeclared(), "gradient-inputs"),
    (OneNumber(), "not-reduced"),
    (WidthLeft(), "shape"),
    (BackwardInsteadOfGrad(), "no-trace"),
    (LeavesEvalMode(), "no-trace"),
    (ChangesRequiresGradOfTheCaller(), "no-trace"),
    (ClampsInPlace(), "input-unchanged"),
    (GlobalRandomState(), "no-global-random"),
    (GeneratorOfItsOwn(), "reproducible"),
    (NormOfTheBatch(), "per-sample"),
    (SharedInterpolationWeight(), "interpolation"),
    (InterpolationWeightOfEachPixel(), "interpolation"),
    (NormOfEachPixel(), "norm"),
    (FakesWithAGraph(), "detached-fakes"),
    (ThawedDiscriminator(), "frozen-discriminator"),
    (ForgottenCreateGraph(), "differentiable"),
    (DetachedGeneratorTerm(), "differentiable"),
    (RootAtZero(), "finite"),
    (HalfPrecisionGradient(), "finite"),
    (UnwidenedLogits(), "autocast"),
    (WeightLeftOut(), "weight"),
    (WeightSquared(), "weight"),
    (ThreeChannels(), "any-shape"),
    (PicturesOnly(), "any-shape"),
    (IgnoresTheCondition(), "condition"),
    (WeightOfEachJudgement(), "judgements"),
    (OneLogitPerSample(), "judgements"),
    (PositionsFirst(), "judgements"),
    (OneLength(), "judgements"),
    (HiddenItemInPenalty(), "no-host-reads"),
    (FixedDeviceInPenalty(), "device"),
]
