"""Blocks, generators and discriminators with one mistake each, and the rule that each breaks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from gankit import Answer


class Layers(nn.Module):
    """Two layers between any two widths, the base of the mistakes below: a block, a generator and a discriminator."""

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
    """Has a weight that is not a parameter, so it is not saved."""

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
    """Prefixes the keys of the state, as `DataParallel` does."""

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
    """A discriminator: logits of shape (N,)."""

    def end(self, out):
        return out.squeeze(1)


class Probabilities(Layers):
    def end(self, out):
        return out.squeeze(1).sigmoid()


class Column(Layers):
    """A discriminator: logits of shape (N, 1)."""


class Patches(Layers):
    """A discriminator: a map of logits."""

    def end(self, out):
        return out.unflatten(1, (1, 2, 3))


class Heads(Layers):
    """A discriminator with two heads of different lengths, and the features of two layers."""

    def forward(self, x):
        hidden = self.norm(self.first(x))
        out = self.last(F.leaky_relu(hidden, 0.2))
        return self.end((out[:, :2], out[:, 2:].unflatten(1, (2, 2))), [hidden, out])

    def end(self, heads, features):
        return Answer(heads=heads, features=features)


class BareTuple(Heads):
    def end(self, heads, features):
        return heads


class BareDictionary(Heads):
    def end(self, heads, features):
        return {"logits": heads[0]}


class HeadWithoutABatch(Heads):
    def end(self, heads, features):
        return Answer(heads=(heads[0], heads[1].mean(0)))


class FeaturesOfTheBatch(Heads):
    def end(self, heads, features):
        return Answer(heads, [one.mean(0) for one in features])


class FeaturesOfASingleSample(Heads):
    def end(self, heads, features):
        return Answer(heads, [one.squeeze(0).unsqueeze(1) for one in features])


class PositionsFirst(Patches):
    """Gives a sample the judgements of others: the transpose has the positions first, and `view` does not know it."""

    def end(self, out):
        return out.T.reshape(out.shape).unflatten(1, (1, 2, 3))


class OneProbability(Heads):
    def end(self, heads, features):
        return Answer(heads=(heads[0], heads[1].sigmoid()))


class OneDetachedHead(Heads):
    def end(self, heads, features):
        return Answer(heads=(heads[0], heads[1].detach()))


class DetachedFeatures(Heads):
    def end(self, heads, features):
        return Answer(heads, [one.detach() for one in features])


class OneWideHead(Heads):
    def end(self, heads, features):
        return Answer(heads=(heads[0], heads[1].float()))


class OneHeadLeftBehind(Heads):
    def end(self, heads, features):
        return Answer(heads=(heads[0], torch.zeros(heads[1].shape, dtype=heads[1].dtype).requires_grad_()))


class Once(torch.autograd.Function):
    """The square, whose backward cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class SlopeWithoutAGraph(Once):
    """The square, whose backward computes with detached tensors."""

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return (2 * x * gradient).detach()


class DifferentiableOnce(Layers):
    def end(self, out):
        return Once.apply(out).squeeze(1) - 1


class FusedAttention(Layers):
    def end(self, out):
        tokens = out.view(-1, 1, 3, 2)
        return F.scaled_dot_product_attention(tokens, tokens, tokens).mean((1, 2, 3))


class DetachedSlope(Layers):
    def forward(self, x):
        return super().forward(SlopeWithoutAGraph.apply(x)).squeeze(1)


class ConditionalLogits(Conditional):
    def end(self, out):
        return out.squeeze(1)


class IgnoresLabelsInD(IgnoresLabels):
    def end(self, out):
        return out.squeeze(1)


def as_discriminator(mistake):
    """Return a discriminator with the same mistake: its `end` also squeezes the logits."""

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
    (Layers(2, 3), None, "shape"),
    (BareTuple(2, 6), None, "shape"),
    (BareDictionary(2, 6), None, "shape"),
    (HeadWithoutABatch(2, 6), None, "shape"),
    (FeaturesOfTheBatch(2, 6), None, "shape"),
    (PositionsFirst(2, 6), None, "batch-order"),
    (SqueezesAll(2, 1), None, "single-sample"),
    (FeaturesOfASingleSample(2, 6), None, "single-sample"),
    (as_discriminator(InPlaceOnTheInput)(2, 1), None, "input-unchanged"),
    (as_discriminator(DropoutInEval)(2, 1), None, "no-global-random"),
    (as_discriminator(CountsInEval)(2, 1), None, "deterministic"),
    (as_discriminator(FixedTypeInForward)(2, 1), None, "dtype"),
    (OneWideHead(2, 6), None, "dtype"),
    (as_discriminator(Detached)(2, 1), None, "gradients"),
    (OneDetachedHead(2, 6), None, "gradients"),
    (DetachedFeatures(2, 6), None, "gradients"),
    (DifferentiableOnce(2, 1), None, "twice-differentiable"),
    (DetachedSlope(2, 1), None, "twice-differentiable"),
    (FusedAttention(2, 6), None, "twice-differentiable"),
    (Wrapped(Logits(2, 1)), None, "state-dict"),
    (as_discriminator(HiddenItemInForward)(2, 1), None, "no-host-reads"),
    (as_discriminator(FixedDeviceInForward)(2, 1), None, "device"),
    (OneHeadLeftBehind(2, 6), None, "device"),
    (Probabilities(2, 1), None, "logits"),
    (OneProbability(2, 6), None, "logits"),
    (IgnoresLabelsInD(2, 1), 3, "condition"),
]
