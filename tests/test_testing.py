"""The checks for other people's parts: wrong parts are caught by the rule they break, ours pass."""

from __future__ import annotations

import copy
import functools
import inspect
import random
import re
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import grad
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from gankit import BLOCKS, DISCRIMINATORS, GENERATORS, LOSSES, REGULARIZERS, GankitError
from gankit.errors import BadValueError, ConformanceError
from gankit.losses import Minimax, NonSaturating
from gankit.losses.f_divergence import FDivergence
from gankit.protocols import check_same_batch
from gankit.regularizers import R1, WeightClipping
from gankit.testing import RULES, check_block, check_discriminator, check_generator, check_loss, check_regularizer

# --- losses with one mistake each --------------------------------------------------------------------------


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
    """The epsilon keeps the value finite and takes the gradient away."""

    def generator_loss(self, fake_logits, real_logits=None):
        return -torch.log(fake_logits.sigmoid() + 1e-8)


class SigmoidBeforeLogits(Minimax):
    """BCEWithLogits of what was a probability already."""

    def discriminator_loss(self, real_logits, fake_logits):
        return super().discriminator_loss(real_logits.sigmoid(), fake_logits.sigmoid())


class CrossEntropyOfSigmoid(Minimax):
    """BCELoss after a sigmoid: right on paper, without a gradient in float32."""

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
    """Squares logits in float16, which ends at 65504."""

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
    """A relativistic average that is right for (N,) and mixes replicas in (R, N)."""

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
    """Wasserstein's critic, whose logits are on a scale of their own."""

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


# --- penalties with one mistake each ------------------------------------------------------------------------


@dataclass(frozen=True)
class Penalty:
    """R1, for mistakes."""

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


class RequiresGradOfTheCallers(Penalty):
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
    """WGAN-GP without its root, for mistakes."""

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


class NoHalf(Penalty):
    half: ClassVar[str] = "critic"


WRONG_PENALTIES = [
    (NoHalf(), "protocol"),
    (R1, "protocol"),
    (Penalty(every=0), "protocol"),
    (Undeclared(), "gradient-inputs"),
    (OneNumber(), "not-reduced"),
    (WidthLeft(), "shape"),
    (BackwardInsteadOfGrad(), "no-trace"),
    (LeavesEvalMode(), "no-trace"),
    (RequiresGradOfTheCallers(), "no-trace"),
    (ClampsInPlace(), "input-unchanged"),
    (GlobalRandomState(), "no-global-random"),
    (GeneratorOfItsOwn(), "reproducible"),
    (NormOfTheBatch(), "per-sample"),
    (SharedInterpolationWeight(), "interpolation"),
    (InterpolationWeightOfEachPixel(), "interpolation"),
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
    (HiddenItemInPenalty(), "no-host-reads"),
    (FixedDeviceInPenalty(), "device"),
]


class EveryZero(WeightClipping):
    def __post_init__(self):
        pass


class ClipsWithAGraph(WeightClipping):
    def apply(self, network):
        for parameter in network.parameters():
            parameter.clamp_(-self.bound, self.bound)


class ReplacesParameters(WeightClipping):
    def apply(self, network):
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach().clamp(-self.bound, self.bound)))


class ClipsAtRandom(WeightClipping):
    def apply(self, network):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.clamp_(-self.bound, self.bound + 1e-3 * torch.rand(()))


class ReadsTheNorm(WeightClipping):
    def apply(self, network):
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.norm() > self.bound:
                    parameter.mul_(self.bound / parameter.norm())


WRONG_CONSTRAINTS = [
    (EveryZero(every=0), "protocol"),
    (ClipsWithAGraph(), "no-graph"),
    (ReplacesParameters(), "in-place"),
    (ClipsAtRandom(), "no-global-random"),
    (ReadsTheNorm(), "no-host-reads"),
]


# --- networks with one mistake each -------------------------------------------------------------------------


class Layers(nn.Module):
    """Two layers between any two widths, for mistakes: block, generator and discriminator in one."""

    classes = 0

    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__()
        self.first = nn.Linear(in_features + self.classes, 16, device=device, dtype=dtype)
        self.norm = nn.BatchNorm1d(16, device=device, dtype=dtype)
        self.last = nn.Linear(16, out_features, device=device, dtype=dtype)

    def forward(self, x):
        return self.end(self.last(F.leaky_relu(self.norm(self.first(x)), 0.2)))

    def end(self, out):
        return out


class NoFactoryArguments(Layers):
    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__(in_features, out_features)


class FixedWidth(Layers):
    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__(in_features, 4, device=device, dtype=dtype)


class ExtraDimension(Layers):
    def end(self, out):
        return out.unsqueeze(-1)


class SqueezesAll(Layers):
    def end(self, out):
        return out.squeeze()


class InPlaceOnTheInput(Layers):
    def forward(self, x):
        return super().forward(x.mul_(2))


class DropoutInEval(Layers):
    def end(self, out):
        return F.dropout(out, 0.1)


class NoiseInEval(Layers):
    random = torch.Generator().manual_seed(0)

    def end(self, out):
        return out + torch.randn(out.shape, generator=self.random).to(out)


class CountsInEval(Layers):
    def __init__(self, *widths, **factory):
        super().__init__(*widths, **factory)
        self.register_buffer("calls", torch.zeros((), **factory))

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


class MixesSamples(Layers):
    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__(in_features, out_features, device=device, dtype=dtype)
        self.norm = nn.BatchNorm1d(16, track_running_stats=False, device=device, dtype=dtype)


class CentersTheBatch(Layers):
    def end(self, out):
        return out - out.mean(0)


class FixedTypeInForward(Layers):
    def end(self, out):
        return out.float()


class Detached(Layers):
    def forward(self, x):
        with torch.no_grad():
            hidden = self.norm(self.first(x))
        return self.end(self.last(hidden))


class UnusedLayer(Layers):
    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__(in_features, out_features, device=device, dtype=dtype)
        self.spare = nn.Linear(2, 2, device=device, dtype=dtype)


class PlainTensor(Layers):
    """A weight that is no parameter: it is neither saved nor moved."""

    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__(in_features, out_features, device=device, dtype=dtype)
        self.scale = torch.rand(out_features)

    def end(self, out):
        return out * self.scale.to(out)


class StaysBehind(Layers):
    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__(in_features, out_features, device=device, dtype=dtype)
        self.scale = torch.ones(out_features)

    def end(self, out):
        return out * self.scale.to(out.dtype)


class Wrapped(nn.Module):
    """What DataParallel and its kin do to the keys."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        return self.module(*inputs)


class ForgetsOnSaving(Layers):
    def state_dict(self, *arguments, **options):
        return {k: v for k, v in super().state_dict(*arguments, **options).items() if "last" not in k}

    def load_state_dict(self, state, strict=True, assign=False):
        return super().load_state_dict(state, strict=False)


class HiddenItemInForward(Layers):
    def end(self, out):
        return out / max(1.0, out.abs().max().item() / 1e9)


class FixedDeviceInForward(Layers):
    def end(self, out):
        return out + torch.zeros(out.shape, dtype=out.dtype, device="cpu")


class Conditional(Layers):
    classes = 3

    def forward(self, x, labels):
        return super().forward(torch.cat([x, F.one_hot(labels, 3).to(x)], 1))


class IgnoresLabels(Conditional):
    def forward(self, x, labels):
        return super().forward(x, torch.zeros_like(labels))


class DefaultLabels(Conditional):
    def forward(self, x, labels=None):
        return super().forward(x, torch.zeros(len(x), dtype=torch.long, device=x.device) if labels is None else labels)


class UntypedRefusal(Conditional):
    def forward(self, x, labels=None):
        return super().forward(x, labels.long())


class Logits(Layers):
    """(N,) from one layer more, for discriminators."""

    def end(self, out):
        return out.squeeze(1)


class Probabilities(Layers):
    def end(self, out):
        return out.squeeze(1).sigmoid()


class ConditionalLogits(Conditional):
    def end(self, out):
        return out.squeeze(1)


class IgnoresLabelsInD(IgnoresLabels):
    def end(self, out):
        return out.squeeze(1)


def in_d(mistake):
    """The same mistake in a discriminator: its two ends are the mistake's, then `squeeze`."""

    def end(self, out):
        return mistake.end(self, out).squeeze(1)

    return type(f"{mistake.__name__}InD", (mistake,), {"end": end})


WRONG_BLOCKS = [
    (lambda *_, **__: torch.zeros(3), "protocol"),
    (NoFactoryArguments, "factory-arguments"),
    (lambda a, b: Layers(a, b), "factory-arguments"),
    (ExtraDimension, "shape"),
    (FixedWidth, "any-width"),
    (InPlaceOnTheInput, "input-unchanged"),
    (DropoutInEval, "no-global-random"),
    (NoiseInEval, "deterministic"),
    (CountsInEval, "deterministic"),
    (MixesSamples, "per-sample"),
    (CentersTheBatch, "per-sample"),
    (SqueezesAll, "single-sample"),
    (FixedTypeInForward, "dtype"),
    (Detached, "gradients"),
    (UnusedLayer, "gradients"),
    (PlainTensor, "state-dict"),
    (HiddenItemInForward, "no-host-reads"),
    (FixedDeviceInForward, "device"),
]
WRONG_GENERATORS = [
    (torch.zeros(3), None, "protocol"),
    (Layers(4, 3), None, "shape"),
    (InPlaceOnTheInput(4, 2), None, "input-unchanged"),
    (DropoutInEval(4, 2), None, "no-global-random"),
    (NoiseInEval(4, 2), None, "deterministic"),
    (MixesSamples(4, 2), None, "per-sample"),
    (SqueezesAll(4, 2), None, "single-sample"),
    (FixedTypeInForward(4, 2), None, "dtype"),
    (UnusedLayer(4, 2), None, "gradients"),
    (ForgetsOnSaving(4, 2), None, "state-dict"),
    (Wrapped(Layers(4, 2)), None, "state-dict"),
    (HiddenItemInForward(4, 2), None, "no-host-reads"),
    (StaysBehind(4, 2), None, "device"),
    (IgnoresLabels(4, 2), 3, "condition"),
    (DefaultLabels(4, 2), 3, "condition"),
    (UntypedRefusal(4, 2), 3, "condition"),
]
WRONG_DISCRIMINATORS = [
    (torch.zeros(3), None, "protocol"),
    (Layers(2, 1), None, "shape"),
    (SqueezesAll(2, 1), None, "single-sample"),
    (in_d(InPlaceOnTheInput)(2, 1), None, "input-unchanged"),
    (in_d(DropoutInEval)(2, 1), None, "no-global-random"),
    (in_d(CountsInEval)(2, 1), None, "deterministic"),
    (in_d(FixedTypeInForward)(2, 1), None, "dtype"),
    (in_d(Detached)(2, 1), None, "gradients"),
    (Wrapped(Logits(2, 1)), None, "state-dict"),
    (in_d(HiddenItemInForward)(2, 1), None, "no-host-reads"),
    (in_d(FixedDeviceInForward)(2, 1), None, "device"),
    (Probabilities(2, 1), None, "logits"),
    (IgnoresLabelsInD(2, 1), 3, "condition"),
]

CHECK_G = functools.partial(check_generator, latent_dim=4, sample_shape=(2,))
CHECK_D = functools.partial(check_discriminator, sample_shape=(2,))

WRONG = {
    "loss": [(check_loss, part, rule) for part, rule in WRONG_LOSSES],
    "regularizer": [(check_regularizer, part, rule) for part, rule in WRONG_PENALTIES],
    "constraint": [(check_regularizer, part, rule) for part, rule in WRONG_CONSTRAINTS],
    "block": [(functools.partial(check_block, in_features=6, out_features=4), p, r) for p, r in WRONG_BLOCKS],
    "generator": [(functools.partial(CHECK_G, num_classes=k), p, r) for p, k, r in WRONG_GENERATORS],
    "discriminator": [(functools.partial(CHECK_D, num_classes=k), p, r) for p, k, r in WRONG_DISCRIMINATORS],
}


def title(part):
    return getattr(part, "__name__", type(part).__name__)


@pytest.mark.parametrize(
    ("check", "part", "rule"),
    [pytest.param(*one, id=f"{kind}-{title(one[1])}-{one[2]}") for kind, wrong in WRONG.items() for one in wrong],
)
def test_a_wrong_part_is_caught_by_the_rule_it_breaks(check, part, rule):
    with pytest.raises(ConformanceError) as caught:
        check(part)
    said = str(caught.value)
    assert caught.value.rule == rule, said
    assert f"breaks the rule {rule!r}: " in said
    assert "; the usual cause is " in said
    assert "\n" not in said


@pytest.mark.parametrize("kind", RULES)
def test_every_rule_has_a_part_that_breaks_it(kind):
    assert {rule for _, _, rule in WRONG[kind]} == RULES[kind].keys()


# what the wrong parts are made from is right, so that each has one mistake


@pytest.mark.parametrize("part", [Penalty(), Interpolated(), GeneratorTerm()])
def test_the_penalties_that_mistakes_are_made_in_are_right(part):
    check_regularizer(part)


def test_the_networks_that_mistakes_are_made_in_are_right():
    check_block(Layers)
    CHECK_G(Layers(4, 2))
    CHECK_G(Conditional(4, 2), num_classes=3)
    CHECK_D(Logits(2, 1))
    CHECK_D(ConditionalLogits(2, 1), num_classes=3)


# --- right parts of other people pass too -------------------------------------------------------------------


class TwoTimeLoss(nn.Module):
    """Least squares with its targets in buffers."""

    needs_real_logits = False

    def __init__(self):
        super().__init__()
        self.register_buffer("targets", torch.tensor([0.0, 1.0]))

    def discriminator_loss(self, real_logits, fake_logits):
        check_same_batch(real_logits, fake_logits)
        fake, real = self.targets.to(real_logits.dtype)
        return (real_logits - real).square() + (fake_logits - fake).square()

    def generator_loss(self, fake_logits, real_logits=None):
        return (fake_logits - self.targets[1].to(fake_logits.dtype)).square()


class Projection(nn.Module):
    """A projection discriminator with spectral norm and a minibatch's standard deviation."""

    def __init__(self):
        super().__init__()
        self.first = spectral_norm(nn.Linear(2, 16))
        self.norm = nn.GroupNorm(4, 16)
        self.last = weight_norm(nn.Linear(17, 1))
        self.embedding = nn.Embedding(3, 17)

    def forward(self, x, labels):
        hidden = F.leaky_relu(self.norm(self.first(x)), 0.2)
        spread = hidden.std(0, correction=0).mean().expand(len(x), 1)
        hidden = torch.cat([hidden, spread], 1)
        return self.last(hidden).squeeze(1) + (hidden * self.embedding(labels)).sum(1)


class Pictures(nn.Module):
    """A generator with dropout, InstanceNorm, a fixed filter and a gain that begins at zero."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8 * 16)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.dropout = nn.Dropout(0.5)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(()))
        self.last = nn.Conv2d(8, 3, 1)
        self.register_buffer("blur", torch.full((3, 1, 3, 3), 1 / 9), persistent=False)

    def forward(self, z):
        x = self.dropout(self.norm(self.first(z).view(-1, 8, 4, 4)))
        x = F.interpolate(x + self.gain * self.branch(x), scale_factor=2)
        return torch.tanh(F.conv2d(self.last(x), self.blur, padding=1, groups=3))


class ConcatenatedPenalty(Interpolated):
    """WGAN-GP that asks D about everything at once."""

    def gradient(self, context):
        between = torch.lerp(context.fake, context.real, self.share(context))
        everything = torch.cat([context.real, between, context.fake]).detach().requires_grad_()
        condition = None if context.condition is None else context.condition.repeat(3)
        logits = context.discriminator(*(one for one in (everything, condition) if one is not None))
        return grad(logits.float().sum(), everything, create_graph=True)[0].chunk(3)[1]


def test_right_parts_of_other_kinds_pass():
    check_loss(TwoTimeLoss())
    check_regularizer(ConcatenatedPenalty())
    CHECK_D(Projection(), num_classes=3)
    check_generator(Pictures(), latent_dim=4, sample_shape=(3, 8, 8))


# --- ours pass ----------------------------------------------------------------------------------------------

PICTURES = [(3, 8, 8), (1, 8, 8)]
REGULARIZER_OPTIONS = {
    "balanced_consistency": {"sample_shapes": PICTURES},
    "consistency": {"sample_shapes": PICTURES},
    "dragan": {"batch_statistic": True},
    "feature_matching": {"batch_statistic": True},
    "lecam": {"batch_statistic": True},
    "mode_seeking": {"batch_statistic": True},
    "path_length": {"batch_statistic": True},
}


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss_of_ours_passes(name):
    check_loss(LOSSES.build(name))


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl", "squared_hellinger"])
def test_a_loss_that_overflows_by_its_nature_passes_where_that_is_said(divergence):
    loss = FDivergence(divergence)
    with pytest.raises(ConformanceError, match="'finite'"):
        check_loss(loss)
    check_loss(loss, bounded=False)


@pytest.mark.parametrize("name", REGULARIZERS.names())
def test_every_regularizer_of_ours_passes(name):
    check_regularizer(REGULARIZERS.build(name), **REGULARIZER_OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", BLOCKS.names())
def test_every_block_of_ours_passes(name):
    block = functools.partial(BLOCKS.build, name)
    flat = not any("Conv" in type(layer).__name__ for layer in BLOCKS.build(name, 6, 4).modules())
    check_block(block, example=None if flat else torch.zeros(1, 6, 8, 8))


def unconditional_and_conditional(registry):
    """Every name without classes, and with three where the network takes them."""
    for name in registry.names():
        yield name, None
        if "num_classes" in inspect.signature(registry.get(name)).parameters:
            yield name, 3


@pytest.mark.parametrize(("name", "num_classes"), list(unconditional_and_conditional(GENERATORS)))
def test_every_generator_of_ours_passes(name, num_classes):
    shapes = {"latent_dim": 8, "sample_shape": (3, 16, 16)}
    given = {} if num_classes is None else {"num_classes": num_classes}
    check_generator(GENERATORS.build(name, **shapes, **given), **shapes, num_classes=num_classes)


@pytest.mark.parametrize(("name", "num_classes"), list(unconditional_and_conditional(DISCRIMINATORS)))
def test_every_discriminator_of_ours_passes(name, num_classes):
    shape = (3, 16, 16)
    given = {} if num_classes is None else {"num_classes": num_classes}
    discriminator = DISCRIMINATORS.build(name, sample_shape=shape, **given)
    check_discriminator(discriminator, sample_shape=shape, num_classes=num_classes)


# --- the caller is left alone -------------------------------------------------------------------------------


def test_checks_leave_the_random_state_the_gradient_mode_and_the_part_alone():
    network = Layers(4, 2).eval()
    network.first.weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    states = torch.get_rng_state(), random.getstate()
    with torch.no_grad():
        CHECK_G(network)
        check_block(Layers)
        check_loss(Minimax())
        check_regularizer(R1())
        for part in (NoisyLabels(), SwappedTargets()):
            with pytest.raises(ConformanceError):
                check_loss(part)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert not network.training
    assert not network.first.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key])


@pytest.mark.parametrize(
    "name", [name for name in REGULARIZERS.names() if isinstance(REGULARIZERS.build(name), nn.Module)]
)
def test_a_part_with_a_state_keeps_it(name):
    part = REGULARIZERS.build(name)
    before = copy.deepcopy(part.state_dict())
    check_regularizer(part, **REGULARIZER_OPTIONS.get(name, {}))
    for key, tensor in part.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_checks_work_whatever_the_caller_has_set():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            check_block(Layers)
            check_loss(Minimax())
            check_regularizer(R1())
        CHECK_G(Layers(4, 2))
        CHECK_D(Logits(2, 1))
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_warning_of_the_part_is_no_failure():
    class Warns(Minimax):
        def generator_loss(self, fake_logits, real_logits=None):
            warnings.warn("beware", stacklevel=1)
            return super().generator_loss(fake_logits)

    check_loss(Warns())


# --- what users see -----------------------------------------------------------------------------------------


def test_a_part_that_raises_is_reported_with_the_call_and_the_reason():
    class Raises(Minimax):
        def discriminator_loss(self, real_logits, fake_logits):
            if real_logits.dtype == torch.bfloat16:
                raise RuntimeError("not implemented\nfor 'BFloat16'")
            return super().discriminator_loss(real_logits, fake_logits)

    with pytest.raises(
        ConformanceError,
        match=r"'dtype': discriminator_loss of real logits \(5,\) and fake logits \(5,\), torch.bfloat16, device cpu "
        r"raised RuntimeError: not implemented for 'BFloat16'; the usual cause is",
    ) as caught:
        check_loss(Raises())
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert isinstance(caught.value, GankitError)
    assert isinstance(caught.value, AssertionError)


def test_a_rule_can_be_left_out_and_an_unknown_one_is_refused():
    check_loss(Broadcasting(), skip=["no-broadcast"])
    with pytest.raises(BadValueError, match="skip must name rules of check_loss, got 'no-brodcast'. Did you mean"):
        check_loss(Broadcasting(), skip=["no-brodcast"])


def test_saturating_is_checked_where_it_is_asked_for():
    check_loss(Minimax())
    with pytest.raises(ConformanceError, match="'non-saturating'"):
        check_loss(Minimax(), saturating=False)
    check_loss(NonSaturatingThatSaturates(), saturating=True)


@pytest.mark.parametrize("smoothing", [0.1, 0.2])
def test_smoothed_labels_are_still_log_odds(smoothing):
    check_loss(replace(Minimax(), label_smoothing=smoothing))


def test_a_batch_statistic_passes_where_it_is_said():
    check_regularizer(NormOfTheBatch(), batch_statistic=True)


def test_the_page_lists_every_rule():
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
    for kind, rules in RULES.items():
        _, _, section = page.partition(f'<a id="rules-{kind}"></a>')
        listed = re.findall(r"^\| `([\w-]+)` \|", section.partition("<a id=")[0], re.MULTILINE)
        assert listed == list(rules), kind
