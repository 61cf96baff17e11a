"""The checks of blocks, generators and discriminators."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gankit.protocols import BlockFactory, batch_multiple_of
from gankit.testing.host_reads import HostReads
from gankit.testing.isolation import global_random_state, same_random_state
from gankit.testing.rules import Rules, Subject, Violation, reason, title_of
from gankit.testing.tensors import shape_text, standard_normal

Kind: TypeAlias = Literal["block", "generator", "discriminator"]
Mode: TypeAlias = Literal["train", "eval"]

_BATCH_SIZE = 5


class _NetworkSubject(Subject):
    """Builds copies of the network to check, and inputs for them."""

    def __init__(
        self,
        kind: Kind,
        title: str,
        build: Callable[..., Any],
        input_shape: Sequence[int],
        output_shape: Sequence[int | None],
        num_classes: int | None = None,
        widths: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(title)
        self.kind = kind
        self.build = build
        self.input_shape = tuple(input_shape)
        self.output_shape = tuple(output_shape)
        self.num_classes = num_classes
        self.widths = widths
        self.multiple: int = 1

    def fresh(self, mode: Mode = "train", dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
        """Build the block, or copy the caller's network, in the given mode and data type and on the device."""
        self.doing = "building it"
        network: nn.Module = self.build()
        # on its device first: a tensor of the wrong kind that is left behind shows in the call
        return network.to(device).to(dtype).train(mode == "train")

    def inputs(
        self, count: int = _BATCH_SIZE, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 1
    ) -> tuple[Tensor, ...]:
        count *= self.multiple
        x = standard_normal(count, *self.input_shape, seed=seed, dtype=dtype).to(device)
        if self.num_classes is None:
            return (x,)
        return x, (torch.arange(count) % self.num_classes).to(device)

    def __call__(self, network: nn.Module, *inputs: Tensor) -> Tensor:
        x, *labels = inputs
        self.doing = (
            f"the call on an input of shape {shape_text(x)}, {x.dtype}, device {x.device}"
            f"{', with labels' if labels else ''}, in {'train' if network.training else 'eval'} mode,"
        )
        return self.tensor(network(*inputs))

    def fits(self, output: Tensor, count: int) -> bool:
        """Return whether the output has the right shape for `count` samples."""
        wanted = (count * self.multiple, *self.output_shape)
        return output.ndim == len(wanted) and all(w in (None, s) for w, s in zip(wanted, output.shape, strict=True))

    def wanted(self, count: int) -> str:
        return str((count * self.multiple, *self.output_shape)).replace("None", "*")


RULES: dict[Kind, Rules[_NetworkSubject]] = {
    "block": Rules("check_block"),
    "generator": Rules("check_generator"),
    "discriminator": Rules("check_discriminator"),
}
_ALL: tuple[Kind, ...] = ("block", "generator", "discriminator")


def check_block(
    block: BlockFactory | Callable[..., nn.Module],
    *,
    example: Tensor | None = None,
    in_features: int = 6,
    out_features: int = 4,
    skip: Collection[str] = (),
) -> None:
    """Check that a block keeps the rules of blocks.

    Args:
        block: The function or class that builds the block. It is called with two widths, and with
            `device=` and `dtype=`.
        example: An input, `(N, in_features, ...)`, for blocks of pictures; only its shape matters. None for
            `(N, in_features)`.
        in_features: The width of the input if there is no example.
        out_features: The width of the output.
        skip: The names of rules not to check.

    Raises:
        ConformanceError: The part breaks a rule. The name of the first is in `rule`.
        BadValueError: A name in `skip` is not the name of a rule.

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
    """Check that a generator keeps the rules of generators. It works on copies and does not change yours.

    Args:
        generator: The generator, called `G(z)`, or `G(z, labels)` with `num_classes`.
        latent_dim: The size of one latent.
        sample_shape: The shape of one sample.
        num_classes: The number of classes if the network is conditional.
        skip: The names of rules not to check.

    Raises:
        ConformanceError: The part breaks a rule. The name of the first is in `rule`.
        BadValueError: A name in `skip` is not the name of a rule.

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
    skip: Collection[str] = (),
) -> None:
    """Check that a discriminator keeps the rules of discriminators. It works on copies and does not change yours.

    Args:
        discriminator: The discriminator, called `D(x)`, or `D(x, labels)` with `num_classes`. If it has a
            `batch_multiple`, it is called with multiples of that many samples.
        sample_shape: The shape of one sample.
        num_classes: The number of classes if the network is conditional.
        skip: The names of rules not to check.

    Raises:
        ConformanceError: The part breaks a rule. The name of the first is in `rule`.
        BadValueError: A name in `skip` is not the name of a rule.

    Example:
        >>> D = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))
        >>> check_discriminator(D, sample_shape=(2,))
        >>> check_discriminator(nn.Sequential(D, nn.Sigmoid()), sample_shape=(2,))
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_discriminator: Sequential breaks the rule 'logits': samples scaled by \
0.1 to 1000 all get answers in [0, 1]; the usual cause is a Sigmoid at the end; the losses want logits
    """
    subject = _NetworkSubject(
        "discriminator", title_of(discriminator), lambda: copy.deepcopy(discriminator), sample_shape, (), num_classes
    )
    subject.multiple = batch_multiple_of(discriminator)
    RULES["discriminator"].check(subject, skip)


def _rule(name: str, cause: str, *kinds: Kind) -> Callable[[Callable[[_NetworkSubject], Violation]], None]:
    def add(test: Callable[[_NetworkSubject], Violation]) -> None:
        for kind in kinds or _ALL:
            RULES[kind].rule(name, cause)(test)

    return add


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


@_rule("protocol", "a block object or a network's output where its builder or the network itself is wanted")
def _protocol_violation(subject: _NetworkSubject) -> Violation:
    if subject.kind == "block":
        subject.doing = f"building it with the widths {subject.widths[0]} and {subject.widths[1]}"
    network: object = subject.build()
    return None if isinstance(network, nn.Module) else f"a {type(network).__name__} is not a torch.nn.Module"


@_rule("factory-arguments", "missing device= and dtype=, or layers they are not passed on to", "block")
def _factory_arguments_violation(subject: _NetworkSubject) -> Violation:
    for name, value in (("device", torch.device("meta")), ("dtype", torch.float64)):
        subject.doing = f"building it with {name}={value}"
        block: nn.Module = subject.build(**{name: value})
        for key, tensor in (*block.named_parameters(), *block.named_buffers()):
            found = getattr(tensor, name)
            if found != value and (name == "device" or tensor.is_floating_point()):
                return f"built with {name}={value}, its {key} has {name} {found}"
    return None


@_rule("shape", "logits of shape (N, 1), which lack .squeeze(1), or a wrong width, size or order of dimensions")
def _shape_violation(subject: _NetworkSubject) -> Violation:
    cases: tuple[tuple[Mode, int], ...] = (("train", _BATCH_SIZE), ("eval", 2))
    for mode, count in cases:
        output = subject(subject.fresh(mode), *subject.inputs(count))
        if not subject.fits(output, count):
            given = count * subject.multiple
            return f"in {mode} mode {given} samples give {shape_text(output)}, not {subject.wanted(count)}"
    return None


@_rule("any-width", "a width that is written into the block", "block")
def _any_width_violation(subject: _NetworkSubject) -> Violation:
    a, b = subject.widths
    for old, new in ((b, a), (2 * a, a), (a, 2 * b)):
        subject.doing = f"building it with the widths {old} and {new}"
        block: nn.Module = subject.build(old, new).to(torch.float32)
        other = _NetworkSubject(
            "block", subject.title, subject.build, (old, *subject.input_shape[1:]), (new, *subject.output_shape[1:])
        )
        x = other.inputs()
        subject.doing = f"the call of a block of the widths {old} and {new} on {shape_text(x[0])}"
        output = block(*x)
        if not other.fits(output, _BATCH_SIZE):
            return f"built with the widths {old} and {new}, it gives {shape_text(output)} for {shape_text(x[0])}"
    return None


@_rule("input-unchanged", "a first layer that works in place, such as ReLU(inplace=True), on the input")
def _input_unchanged_violation(subject: _NetworkSubject) -> Violation:
    with torch.no_grad():
        inputs = subject.inputs()
        subject(subject.fresh(), *inputs)
    for before, after in zip(subject.inputs(), inputs, strict=True):
        if not torch.equal(before, after):
            return f"it changes the {'labels' if after.ndim == 1 and after is not inputs[0] else 'input'} in place"
    return None


@_rule("no-global-random", "F.dropout without training=self.training, or torch.randn in forward")
def _global_random_violation(subject: _NetworkSubject) -> Violation:
    network, inputs = subject.fresh("eval"), subject.inputs()
    before = global_random_state()
    subject(network, *inputs)
    if not same_random_state(before, global_random_state()):
        return "a call in eval mode changes the global random state"
    return None


@_rule("deterministic", "noise or a count that goes on in eval mode")
def _deterministic_violation(subject: _NetworkSubject) -> Violation:
    network, inputs = subject.fresh("eval"), subject.inputs()
    state = {key: tensor.clone() for key, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    if not torch.equal(subject(network, *inputs), subject(network, *inputs)):
        return "two calls in eval mode on the same input differ"
    for key, tensor in network.state_dict().items():
        if key in state and not torch.equal(tensor, state[key]):
            return f"a call in eval mode changes its {key}"
    return None


@_rule(
    "per-sample",
    "BatchNorm without running statistics, or a mean over dimension 0",
    "block",
    "generator",
)
def _per_sample_violation(subject: _NetworkSubject) -> Violation:
    network = subject.fresh("eval", torch.float64)
    x, *labels = subject.inputs(dtype=torch.float64)
    others = x.clone()
    others[2:] = standard_normal(*others[2:].shape, seed=2, dtype=torch.float64) * 3
    if not _close(subject(network, x, *labels)[:2], subject(network, others, *labels)[:2]):
        return f"in eval mode the first samples' output changes with the others of a batch of {_BATCH_SIZE}"
    alone = subject(network, *(one[:2] for one in (x, *labels)))
    return None if _close(alone, subject(network, x, *labels)[:2]) else "in eval mode it depends on the batch size"


@_rule("single-sample", "a .squeeze() without a dimension, which takes the batch's away too")
def _single_sample_violation(subject: _NetworkSubject) -> Violation:
    output = subject(subject.fresh("eval"), *subject.inputs(1))
    return (
        None
        if subject.fits(output, 1)
        else f"a batch of {subject.multiple} gives {shape_text(output)}, not {subject.wanted(1)}"
    )


@_rule("dtype", "a .float(), or a tensor of a fixed type made in forward")
def _dtype_violation(subject: _NetworkSubject) -> Violation:
    for dtype in (torch.float64, torch.bfloat16):
        output = subject(subject.fresh("train", dtype), *subject.inputs(dtype=dtype))
        if output.dtype != dtype:
            return f"moved to {dtype}, it gives {output.dtype}"
        if not output.isfinite().all():
            return f"moved to {dtype}, it gives a value that is not finite"
    return None


@_rule("gradients", "a .detach(), .data or torch.no_grad(), or a layer that forward does not use")
def _gradients_violation(subject: _NetworkSubject) -> Violation:
    network = subject.fresh()
    x, *labels = subject.inputs()
    x.requires_grad_()
    output = subject(network, x, *labels)
    if not output.requires_grad:
        return "the output requires no gradient"
    weights = standard_normal(output.numel(), seed=3).view(output.shape)
    inputs = {"the input": x}
    inputs |= {f"parameter {key}": p for key, p in network.named_parameters() if p.requires_grad}
    found: Any = torch.autograd.grad((output * weights).sum(), list(inputs.values()), allow_unused=True)
    for key, gradient in zip(inputs, found, strict=True):
        if gradient is None or not gradient.isfinite().all():
            return f"{key} gets {'no' if gradient is None else 'a non-finite'} gradient"
    return None


@_rule("state-dict", "a tensor that is no parameter and no buffer, a wrapper's prefix, or objects in the state")
def _state_dict_violation(subject: _NetworkSubject) -> Violation:
    network, other = subject.fresh("eval"), subject.fresh("eval")
    for key in network.state_dict():
        if key.startswith("module.") or "_orig_mod." in key:
            return f"its state_dict has the key {key!r}, with the prefix of a wrapper"
    file = io.BytesIO()
    subject.doing = "saving its state_dict and loading it with weights_only=True"
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
        return "another one with its state_dict gives another output"
    return None


@_rule("no-host-reads", "an .item(), float(), bool() or an `if` on a tensor, for which a GPU has to wait")
def _host_read_violation(subject: _NetworkSubject) -> Violation:
    for mode in ("train", "eval"):
        network, inputs = subject.fresh(mode), subject.inputs()
        with HostReads() as reads:
            subject(network, *inputs)
        if reads.count:
            return f"a call in {mode} mode reads {reads.count} values on the host"
    return None


@_rule("device", "a tensor made on a fixed device in forward, or one that is no buffer and stays behind")
def _device_violation(subject: _NetworkSubject) -> Violation:
    output = subject(subject.fresh(device="meta"), *subject.inputs(device="meta"))
    return None if output.device.type == "meta" else f"moved to the device meta, its output is on {output.device}"


@_rule("logits", "a Sigmoid at the end; the losses want logits", "discriminator")
def _logits_violation(subject: _NetworkSubject) -> Violation:
    network = subject.fresh("eval")
    x, *labels = subject.inputs(16)
    with torch.no_grad():
        answers = torch.cat([subject(network, x * scale, *labels) for scale in (0.1, 1.0, 30.0, 1000.0)])
    if ((answers >= 0) & (answers <= 1)).all():
        return "samples scaled by 0.1 to 1000 all get answers in [0, 1]"
    return None


@_rule("condition", "labels that forward takes and does not use, or a default for them", "generator", "discriminator")
def _condition_violation(subject: _NetworkSubject) -> Violation:
    if subject.num_classes is None:
        return None
    network = subject.fresh("eval")
    x, labels = subject.inputs()
    if subject.num_classes > 1 and torch.equal(
        subject(network, x, labels), subject(network, x, (labels + 1) % subject.num_classes)
    ):
        return "other labels give the same output"
    try:
        network(x)
    except (TypeError, ValueError):  # gankit's own refusals are of these types too
        return None
    except Exception as error:  # noqa: BLE001, whatever a stranger's part raises
        return (
            f"called without labels it raises {type(error).__name__}, neither TypeError nor ValueError: {reason(error)}"
        )
    return "called without labels it answers all the same"
