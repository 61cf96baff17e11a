"""The checks of blocks, generators and discriminators."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gankit.answers import Answer, Judgements
from gankit.errors import BadArgumentsError, ShapeError
from gankit.protocols import BlockFactory, batch_multiple_of
from gankit.testing.host_reads import count_host_reads
from gankit.testing.isolation import changes_global_random_state
from gankit.testing.rules import HOST_READ_CAUSE, Rules, RuleTest, Subject, Violation, message_of, title_of
from gankit.testing.tensors import gradients_of, shape_text, standard_normal

Kind: TypeAlias = Literal["block", "generator", "discriminator"]
Mode: TypeAlias = Literal["train", "eval"]

_BATCH_SIZE = 5


class _NetworkSubject(Subject):
    """A network and inputs for it; every rule tests a new copy of the network.

    Attributes:
        multiple: The number of which every batch size is a multiple.
    """

    def __init__(
        self,
        kind: Kind,
        title: str,
        build: Callable[..., Any],
        input_shape: Sequence[int],
        output_shape: Sequence[int | None],
        num_classes: int | None = None,
        widths: tuple[int, int] = (0, 0),
        condition_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(title)
        self.kind = kind
        self.build = build
        self.input_shape = tuple(input_shape)
        self.output_shape = tuple(output_shape)
        self.num_classes = num_classes
        self.condition_shape = condition_shape
        self.widths = widths
        self.multiple: int = 1

    def fresh(self, mode: Mode = "train", dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
        """Return a new network, or a copy of the caller's."""
        self.current_call = "building it"
        network: nn.Module = self.build()
        # moved to the device first: the call then fails if a tensor stays behind
        return network.to(device).to(dtype).train(mode == "train")

    def inputs(
        self, count: int = _BATCH_SIZE, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 1
    ) -> tuple[Tensor, ...]:
        """Return `(x,)`, or `(x, condition)` for a conditional network."""
        count *= self.multiple
        x = standard_normal(count, *self.input_shape, seed=seed, dtype=dtype).to(device)
        if self.condition_shape is not None:
            return x, standard_normal(count, *self.condition_shape, seed=seed + 10, dtype=dtype).to(device)
        if self.num_classes is None:
            return (x,)
        return x, (torch.arange(count) % self.num_classes).to(device)

    def other(self, condition: Tensor) -> Tensor | None:
        """Return conditions that all differ from the given ones, or None if there are no others."""
        if self.num_classes is None:
            return condition.flip(0)
        return (condition + 1) % self.num_classes if self.num_classes > 1 else None

    @property
    def condition_name(self) -> str:
        """What the condition is called in messages."""
        return "condition" if self.condition_shape is not None else "labels"

    def returned(self, network: nn.Module, *inputs: Tensor) -> object:
        """Return what the network returns."""
        x, *condition = inputs
        given = f", with {'labels' if self.condition_shape is None else 'a condition'}" if condition else ""
        self.current_call = (
            f"the call on an input of shape {shape_text(x)}, {x.dtype}, device {x.device}{given}, in "
            f"{'train' if network.training else 'eval'} mode,"
        )
        return network(*inputs)

    def parts(self, network: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
        """Return the tensors that the network returns by name: its output, or the heads and features of an `Answer`."""
        returned = self.returned(network, *inputs)
        if self.kind != "discriminator" or not isinstance(returned, Answer):
            return {"the output": self.as_tensor(returned)}
        features = [one for one in tree_leaves(returned.features) if isinstance(one, Tensor)]
        heads = {f"head {index}": head for index, head in enumerate(returned.heads)}
        return heads | {f"feature {index}": one for index, one in enumerate(features)}

    def __call__(self, network: nn.Module, *inputs: Tensor) -> Tensor:
        """Return all that the network returns for its inputs as one tensor, `(N, ...)`."""
        first, *others = self.parts(network, *inputs).values()
        if not others:
            return first
        return torch.cat([one.reshape(len(inputs[0]), -1) for one in (first, *others)], 1)

    def reversed(self, x: Tensor) -> Tensor:
        """Return samples in reverse order. Those that the network joins stay together."""
        return x.reshape(-1, self.multiple, *x.shape[1:]).flip(0).flatten(0, 1)

    def misfit(self, returned: object, count: int) -> str | None:
        """Return what is wrong with the shape of what was returned for `count` samples, or None."""
        given = count * self.multiple
        if self.kind == "discriminator":
            try:
                answer = Judgements(returned, (given,)).answer
            except (BadArgumentsError, ShapeError) as error:
                return f"get no judgements: {error}"
            features = [one for one in tree_leaves(answer.features) if isinstance(one, Tensor)]
            wrong = [shape_text(one) for one in features if one.shape[:1] != (given,)]
            return f"have features of the shape {wrong[0]}, not ({given}, *)" if wrong else None
        output, wanted = self.as_tensor(returned), (given, *self.output_shape)
        if output.ndim == len(wanted) and all(w in (None, s) for w, s in zip(wanted, output.shape, strict=True)):
            return None
        return f"give the shape {shape_text(output)}, not {wanted}".replace("None", "*")


RULES: dict[Kind, Rules[_NetworkSubject]] = {
    "block": Rules("check_block"),
    "generator": Rules("check_generator"),
    "discriminator": Rules("check_discriminator"),
}


def check_block(
    block: BlockFactory | Callable[..., nn.Module],
    *,
    example: Tensor | None = None,
    in_features: int = 6,
    out_features: int = 4,
    skip: Collection[str] = (),
) -> None:
    """Check that a block follows the rules of blocks.

    Args:
        block: The function or class that builds the block from two widths. It takes `device=` and `dtype=` too.
        example: An input, `(N, in_features, ...)`, of which only the shape matters; for blocks of pictures. None for
            `(N, in_features)`.
        in_features: The input width, if there is no example.
        out_features: The output width.
        skip: The names of rules that are not checked.

    Raises:
        ConformanceError: For the first broken rule; the error's `rule` is its name.
        BadValueError: If `skip` contains a name that is not a rule.

    Example:
        >>> from gankit.blocks import conv_bn_leaky_relu, linear_relu
        >>> check_block(linear_relu)
        >>> check_block(conv_bn_leaky_relu, example=torch.zeros(1, 6, 8, 8))
    """
    inside: tuple[int, ...] = () if example is None else tuple(example.shape[2:])
    widths = (in_features if example is None else example.shape[1], out_features)

    def build(*other: int, **factory: Any) -> Any:
        return block(*(other or widths), **factory)

    shapes = (widths[0], *inside), (widths[1], *[None] * len(inside))
    RULES["block"].check(_NetworkSubject("block", title_of(block), build, *shapes, widths=widths), skip)


def check_generator(
    generator: nn.Module,
    *,
    latent_dim: int,
    sample_shape: Sequence[int],
    num_classes: int | None = None,
    skip: Collection[str] = (),
) -> None:
    """Check that a generator follows the rules of generators. The check works on copies of it.

    Args:
        generator: G, called as `G(z)`, or as `G(z, labels)` with `num_classes`.
        latent_dim: The length of one latent.
        sample_shape: The shape of one sample.
        num_classes: The number of classes; None for an unconditional G.
        skip: The names of rules that are not checked.

    Raises:
        ConformanceError: For the first broken rule; the error's `rule` is its name.
        BadValueError: If `skip` contains a name that is not a rule.

    Example:
        >>> check_generator(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)),
        ...                 latent_dim=4, sample_shape=(2,))
    """
    subject = _NetworkSubject(
        "generator", title_of(generator), lambda: copy.deepcopy(generator), (latent_dim,), sample_shape, num_classes
    )
    RULES["generator"].check(subject, skip)


def check_discriminator(
    discriminator: nn.Module,
    *,
    sample_shape: Sequence[int],
    num_classes: int | None = None,
    condition_shape: Sequence[int] | None = None,
    skip: Collection[str] = (),
) -> None:
    """Check that a discriminator follows the rules of discriminators. The check works on copies of it.

    Args:
        discriminator: D, called as `D(x)`, or as `D(x, condition)` with `num_classes` or `condition_shape`. It returns
            one of what `gankit.answers` lists. If it has a `batch_multiple`, batch sizes are multiples of it.
        sample_shape: The shape of one sample.
        num_classes: The number of classes of a D whose condition is a label; None for any other D.
        condition_shape: The shape of the condition of one sample, such as a picture `(C, H, W)` that D joins to the
            sample; None for any other D.
        skip: The names of rules that are not checked.

    Raises:
        ConformanceError: For the first broken rule; the error's `rule` is its name.
        BadValueError: If `skip` contains a name that is not a rule.
        BadArgumentsError: If both `num_classes` and `condition_shape` are given.

    Example:
        >>> D = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))
        >>> check_discriminator(D, sample_shape=(2,))
        >>> check_discriminator(nn.Sequential(D, nn.Sigmoid()), sample_shape=(2,))
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_discriminator: Sequential breaks the rule 'logits': samples scaled by \
0.1 to 1000 all get outputs in [0, 1]; the usual cause is a Sigmoid at the end; the losses expect logits
    """
    if num_classes is not None and condition_shape is not None:
        raise BadArgumentsError(
            "check_discriminator takes num_classes for labels or condition_shape for another condition, got both: "
            f"num_classes={num_classes} and condition_shape={tuple(condition_shape)}"
        )
    subject = _NetworkSubject(
        "discriminator",
        title_of(discriminator),
        lambda: copy.deepcopy(discriminator),
        sample_shape,
        (),
        num_classes,
        condition_shape=condition_shape,
    )
    subject.multiple = batch_multiple_of(discriminator)
    RULES["discriminator"].check(subject, skip)


def _rule(name: str, cause: str, *kinds: Kind) -> Callable[[RuleTest[_NetworkSubject]], RuleTest[_NetworkSubject]]:
    """Return a decorator that adds the test of a rule for these kinds of networks, or for all."""

    def add(test: RuleTest[_NetworkSubject]) -> RuleTest[_NetworkSubject]:
        for kind in kinds or RULES:
            RULES[kind].rule(name, cause)(test)
        return test

    return add


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


@_rule("protocol", "a block instead of the function that builds it, or an output instead of the network")
def _protocol_violation(subject: _NetworkSubject) -> Violation:
    if subject.kind == "block":
        subject.current_call = f"building it with the widths {subject.widths[0]} and {subject.widths[1]}"
    network: object = subject.build()
    return None if isinstance(network, nn.Module) else f"a {type(network).__name__} is not a torch.nn.Module"


@_rule("factory-arguments", "missing device= and dtype=, or a layer that does not receive them", "block")
def _factory_arguments_violation(subject: _NetworkSubject) -> Violation:
    for name, value in (("device", torch.device("meta")), ("dtype", torch.float64)):
        subject.current_call = f"building it with {name}={value}"
        block: nn.Module = subject.build(**{name: value})
        for key, tensor in (*block.named_parameters(), *block.named_buffers()):
            found = tensor.device if name == "device" else tensor.dtype
            if found != value and (name == "device" or tensor.is_floating_point()):
                return f"built with {name}={value}, its {key} has the {name} {found}"
    return None


@_rule("shape", "a wrong width, size or order of dimensions", "block", "generator")
@_rule(
    "shape", "several numbers, a tuple or a dict without gankit.Answer, or a wrong order of dimensions", "discriminator"
)
def _shape_violation(subject: _NetworkSubject) -> Violation:
    cases: tuple[tuple[Mode, int], ...] = (("train", _BATCH_SIZE), ("eval", 2))
    for mode, count in cases:
        misfit = subject.misfit(subject.returned(subject.fresh(mode), *subject.inputs(count)), count)
        if misfit:
            return f"in {mode} mode {count * subject.multiple} samples {misfit}"
    return None


@_rule("any-width", "a fixed width inside the block", "block")
def _any_width_violation(subject: _NetworkSubject) -> Violation:
    a, b = subject.widths
    for width_in, width_out in ((b, a), (2 * a, a), (a, 2 * b)):
        widths = f"the widths {width_in} and {width_out}"
        subject.current_call = f"building it with {widths}"
        block: nn.Module = subject.build(width_in, width_out).to(torch.float32)
        shapes = (width_in, *subject.input_shape[1:]), (width_out, *subject.output_shape[1:])
        other = _NetworkSubject("block", subject.title, subject.build, *shapes)
        (x,) = other.inputs()
        subject.current_call = f"the call of a block with {widths} on an input of shape {shape_text(x)}"
        output = block(x)
        if other.misfit(output, _BATCH_SIZE):
            return f"built with {widths}, it returns the shape {shape_text(output)} for {shape_text(x)}"
    return None


@_rule("input-unchanged", "a first layer that changes its input in place, such as ReLU(inplace=True)")
def _input_unchanged_violation(subject: _NetworkSubject) -> Violation:
    with torch.no_grad():
        inputs = subject.inputs()
        subject(subject.fresh(), *inputs)
    for before, after in zip(subject.inputs(), inputs, strict=True):
        if not torch.equal(before, after):
            return f"it changes the {'input' if after is inputs[0] else subject.condition_name} in place"
    return None


@_rule("no-global-random", "F.dropout without training=self.training, or torch.randn in forward")
def _global_random_violation(subject: _NetworkSubject) -> Violation:
    network, inputs = subject.fresh("eval"), subject.inputs()
    changed = changes_global_random_state(lambda: subject(network, *inputs))
    return "a call in eval mode changes the global random state" if changed else None


@_rule("deterministic", "noise or a counter that is also active in eval mode")
def _deterministic_violation(subject: _NetworkSubject) -> Violation:
    network, inputs = subject.fresh("eval"), subject.inputs()
    state = {key: tensor.clone() for key, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    if not torch.equal(subject(network, *inputs), subject(network, *inputs)):
        return "two calls in eval mode on the same input differ"
    for key, tensor in network.state_dict().items():
        if key in state and not torch.equal(tensor, state[key]):
            return f"a call in eval mode changes its {key}"
    return None


@_rule("per-sample", "BatchNorm without running statistics, or a mean over dimension 0", "block", "generator")
def _per_sample_violation(subject: _NetworkSubject) -> Violation:
    network = subject.fresh("eval", torch.float64)
    x, *condition = subject.inputs(dtype=torch.float64)
    others = x.clone()
    others[2:] = standard_normal(*others[2:].shape, seed=2, dtype=torch.float64) * 3
    if not _close(subject(network, x, *condition)[:2], subject(network, others, *condition)[:2]):
        return f"in eval mode the output for a sample depends on the other samples of a batch of {_BATCH_SIZE}"
    pair = subject(network, *(tensor[:2] for tensor in (x, *condition)))
    if not _close(pair, subject(network, x, *condition)[:2]):
        return "in eval mode the output depends on the batch size"
    return None


@_rule(
    "batch-order", "positions before samples, so that a view gives a sample the judgements of others", "discriminator"
)
def _batch_order_violation(subject: _NetworkSubject) -> Violation:
    network, inputs = subject.fresh("eval", torch.float64), subject.inputs(dtype=torch.float64)
    judgements = subject(network, *inputs)
    if not _close(subject(network, *map(subject.reversed, inputs)), subject.reversed(judgements)):
        return f"in eval mode, {_BATCH_SIZE * subject.multiple} samples in reverse order get other judgements"
    return None


@_rule("single-sample", "a .squeeze() without a dimension, which also removes the batch dimension")
def _single_sample_violation(subject: _NetworkSubject) -> Violation:
    misfit = subject.misfit(subject.returned(subject.fresh("eval"), *subject.inputs(1)), 1)
    return f"samples of a batch of {subject.multiple} {misfit}" if misfit else None


@_rule("dtype", "a .float(), or a tensor with a fixed dtype created in forward")
def _dtype_violation(subject: _NetworkSubject) -> Violation:
    for dtype in (torch.float64, torch.bfloat16):
        for name, one in subject.parts(subject.fresh("train", dtype), *subject.inputs(dtype=dtype)).items():
            if one.dtype != dtype:
                return f"moved to {dtype}, it returns {name} in {one.dtype}"
            if not one.isfinite().all():
                return f"moved to {dtype}, it returns {name} with a value that is not finite"
    return None


@_rule("gradients", "a .detach(), .data or torch.no_grad(), or a layer that forward does not use")
def _gradients_violation(subject: _NetworkSubject) -> Violation:
    network = subject.fresh()
    x, *condition = subject.inputs()
    x.requires_grad_()
    parts = subject.parts(network, x, *condition)
    for name, one in parts.items():
        if not one.requires_grad:
            return f"{name} requires no gradient"
    # what only the features use is never trained
    heads = [one for name, one in parts.items() if not name.startswith("feature")]
    inputs = {"the input": x}
    inputs |= {f"parameter {key}": p for key, p in network.named_parameters() if p.requires_grad}
    weights = standard_normal(sum(one.numel() for one in heads), seed=3)
    found = gradients_of((torch.cat([one.flatten() for one in heads]) * weights).sum(), inputs.values())
    for key, gradient in zip(inputs, found, strict=True):
        if gradient is None or not gradient.isfinite().all():
            return f"{key} receives {'no' if gradient is None else 'a non-finite'} gradient"
    return None


@_rule(
    "twice-differentiable",
    "fused attention, a once_differentiable autograd.Function, or another operation that gradient penalties cannot "
    "differentiate twice",
    "discriminator",
)
def _twice_differentiable_violation(subject: _NetworkSubject) -> Violation:
    network = subject.fresh()
    x, *condition = subject.inputs()
    parameters = {key: p for key, p in network.named_parameters() if p.requires_grad}
    if not parameters:
        return None  # nothing that a penalty could train
    parts = subject.parts(network, x.requires_grad_(), *condition)
    heads = [one for name, one in parts.items() if not name.startswith("feature")]
    weights = standard_normal(sum(one.numel() for one in heads), seed=3)
    # weights with a graph, because a once_differentiable backward does not object to a gradient without one
    total = (torch.cat([one.flatten() for one in heads]) * weights.requires_grad_()).sum()
    subject.current_call = "differentiating the logits with respect to the samples and then to the parameters"
    (slope,) = torch.autograd.grad(total, x, create_graph=True)
    if not slope.requires_grad:
        return "the gradient with respect to the samples has no graph, so that a penalty on it has no effect"
    # not autograd.grad, which passes over what it does not need, even if that raises an error
    torch.autograd.backward(slope.square().sum())
    for key, parameter in parameters.items():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"parameter {key} receives a non-finite gradient from a gradient penalty"
    return None


@_rule("state-dict", "a tensor that is neither a parameter nor a buffer, a wrapper's prefix, or objects in the state")
def _state_dict_violation(subject: _NetworkSubject) -> Violation:
    network, other = subject.fresh("eval"), subject.fresh("eval")
    for key in network.state_dict():
        if key.startswith("module.") or "_orig_mod." in key:
            return f"its state_dict has the key {key!r} with the prefix of a wrapper"
    file = io.BytesIO()
    subject.current_call = "saving its state_dict and loading it with weights_only=True"
    torch.save(network.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    saved = {id(tensor) for tensor in other.state_dict(keep_vars=True).values()}
    with torch.no_grad():
        for tensor in (*other.parameters(), *(b for b in other.buffers() if id(b) in saved)):
            if tensor.is_floating_point():
                tensor.add_(1.0)
    other.load_state_dict(state)
    if not _close(subject(network, *subject.inputs()), subject(other, *subject.inputs())):
        return "a second network that loads its state_dict gives a different output"
    return None


@_rule("no-host-reads", HOST_READ_CAUSE)
def _host_read_violation(subject: _NetworkSubject) -> Violation:
    for mode in ("train", "eval"):
        network, inputs = subject.fresh(mode), subject.inputs()
        count = count_host_reads(partial(subject, network, *inputs))
        if count:
            return f"a call in {mode} mode reads {count} values on the host"
    return None


@_rule("device", "a tensor created on a fixed device in forward, or one that stays behind because it is not a buffer")
def _device_violation(subject: _NetworkSubject) -> Violation:
    for name, one in subject.parts(subject.fresh(device="meta"), *subject.inputs(device="meta")).items():
        if one.device.type != "meta":
            return f"moved to the device meta, it returns {name} on {one.device}"
    return None


@_rule("logits", "a Sigmoid at the end; the losses expect logits", "discriminator")
def _logits_violation(subject: _NetworkSubject) -> Violation:
    network = subject.fresh("eval")
    x, *condition = subject.inputs(16)
    with torch.no_grad():
        scaled = [subject.parts(network, x * scale, *condition) for scale in (0.1, 1.0, 30.0, 1000.0)]
    for name in scaled[0]:
        outputs = torch.cat([parts[name].flatten() for parts in scaled])
        if not name.startswith("feature") and ((outputs >= 0) & (outputs <= 1)).all():
            of = "" if len(scaled[0]) == 1 else f" of {name}"
            return f"samples scaled by 0.1 to 1000 all get outputs{of} in [0, 1]"
    return None


@_rule("condition", "a condition that forward ignores, or a default for a missing one", "generator", "discriminator")
def _condition_violation(subject: _NetworkSubject) -> Violation:
    network, inputs = subject.fresh("eval"), subject.inputs()
    if len(inputs) == 1:
        return None
    x, condition = inputs
    other, name = subject.other(condition), subject.condition_name
    if other is not None and torch.equal(subject(network, x, condition), subject(network, x, other)):
        return f"{'another condition gives' if name == 'condition' else 'different labels give'} the same output"
    without = f"called without {'a condition' if name == 'condition' else 'labels'}, it raises"
    try:
        network(x)
    except (TypeError, ValueError):  # gankit's own errors have these types too
        return None
    except Exception as error:  # noqa: BLE001, a part may raise anything
        return f"{without} {type(error).__name__} instead of TypeError or ValueError: {message_of(error)}"
    return f"{without} no error"
