"""Replicas: several networks of one architecture that are trained side by side in one program."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakTensorKeyDictionary
from typing_extensions import override

from gankit.answers import Features
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.protocols import batch_multiple_of

_ABOUT_VMAP = re.compile(r"vmap|Batching rule")
_DRAWING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU)
_MARKS: Any = WeakTensorKeyDictionary()  # of parameters that were copied, which may be gone when they are compared
# These update each element by itself, so that replicas do not influence each other. They are listed by name because a
# subclass of one of them may do otherwise.
ELEMENTWISE = {
    "SGD",
    "Adam",
    "AdamW",
    "NAdam",
    "RAdam",
    "Adamax",
    "Adadelta",
    "Adagrad",
    "ASGD",
    "RMSprop",
    "Rprop",
    "ReplicaAdam",
    "ScheduledSGD",
}


class Stacked(nn.Module):
    """R networks of one architecture in one module, each parameter and buffer of which has a leading dimension R.

    Its forward pass maps that of the architecture over the leading dimension (`torch.vmap` of a functional call), so
    that one kernel does the work of R. Losses, penalties and autograd stay outside, and see logits `(R, N)`. Every
    tensor of an `Answer`, and of its features, has the leading dimension.
    The names in its `state_dict` are those of one network.

    Args:
        networks: One or more networks of one architecture. Their weights are copied.

    Attributes:
        replicas: The number of networks, R.

    Raises:
        BadValueError: for an empty sequence.
        BadArgumentsError: for networks that differ in more than their weights, or that draw random numbers while
            they run, as dropout does.

    Example:
        >>> both = Stacked([nn.Linear(3, 2), nn.Linear(3, 2)])
        >>> both.weight.shape, both(torch.zeros(2, 5, 3)).shape
        (torch.Size([2, 2, 3]), torch.Size([2, 5, 2]))
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        if not networks:
            raise BadValueError("networks to stack must be one or more, got none")
        super().__init__()
        _check_alike(networks)
        self.replicas: int = len(networks)
        parameters = [parameter for network in networks for parameter in network.parameters()]
        self.__dict__["_copied"] = {_MARKS.setdefault(one, object()) for one in parameters}
        try:
            tree = copy.deepcopy(networks[0])
        except (RuntimeError, TypeError) as error:
            raise BadArgumentsError(
                f"replicas must be networks that copy.deepcopy can copy ({_first(error)})"
            ) from error
        tied: dict[Tensor, Tensor] = {}  # what several layers share, they share in replicas too
        for path, layer in _layers(tree):
            others = [network.get_submodule(path) for network in networks]
            for name, parameter in list(layer.named_parameters(recurse=False, remove_duplicate=False)):
                stacked = torch.stack([one.get_parameter(name).detach() for one in others])
                if parameter not in tied:
                    tied[parameter] = nn.Parameter(stacked, requires_grad=parameter.requires_grad)
                layer.register_parameter(name, cast(nn.Parameter, tied[parameter]))
            for name, buffer in list(layer.named_buffers(recurse=False, remove_duplicate=False)):
                if buffer not in tied:
                    tied[buffer] = torch.stack([one.get_buffer(name) for one in others])
                setattr(layer, name, tied[buffer])
        # The tree's children become children of this module, so that names have no prefix. The tree itself is kept in
        # __dict__, where torch does not see it as a child.
        self._parameters, self._buffers, self._modules = tree._parameters, tree._buffers, tree._modules
        self.__dict__["_tree"] = tree
        self.training: bool = tree.training

    def replica(self, index: int) -> nn.Module:
        """Return one of the networks, with its own copy of the weights.

        Raises:
            BadValueError: for an index outside 0 to R - 1.
        """
        if not 0 <= index < self.replicas:
            raise BadValueError(f"replica must be from 0 to {self.replicas - 1}, got {index}")
        self._tree.training = self.training
        network = copy.deepcopy(self._tree)
        tied: dict[Tensor, Tensor] = {}
        for layer in network.modules():
            for name, parameter in list(layer.named_parameters(recurse=False, remove_duplicate=False)):
                if parameter not in tied:
                    own = parameter.detach()[index].clone()
                    tied[parameter] = nn.Parameter(own, requires_grad=parameter.requires_grad)
                layer.register_parameter(name, cast(nn.Parameter, tied[parameter]))
            for name, buffer in list(layer.named_buffers(recurse=False, remove_duplicate=False)):
                if buffer not in tied:
                    tied[buffer] = buffer[index].clone()
                setattr(layer, name, tied[buffer])
        return network

    @override
    def forward(self, x: Tensor, condition: Any = None) -> Any:
        """Map inputs of shape `(R, N, ...)` to what one network returns, each tensor of which becomes `(R, N, ...)`."""
        return self._mapped(self._tree, x, condition)

    @property
    def features(self) -> Callable[[Tensor, Any], Features]:
        """The mapped `features(x, condition)` of the networks; an AttributeError if they have none."""
        _ = self._tree.features  # raises AttributeError if the networks have none
        return lambda x, condition=None: self._mapped(_Features(self._tree), x, condition, "network.")

    def shares_parameters_with(self, other: nn.Module) -> bool:
        """Return whether both were made of networks that had a parameter in common, of which each now has a copy."""
        return isinstance(other, Stacked) and not self.__dict__["_copied"].isdisjoint(other.__dict__["_copied"])

    @property
    def batch_multiple(self) -> int:
        """The number of samples that the networks join, as packing does."""
        return batch_multiple_of(self._tree)

    @property
    def _tree(self) -> Any:
        return self.__dict__["_tree"]

    def _mapped(self, network: nn.Module, x: Tensor, condition: Any, prefix: str = "") -> Any:
        if x.shape[:1] != (self.replicas,):
            raise ShapeError(
                f"{self.replicas} replicas need inputs of shape ({self.replicas}, N, ...), got {tuple(x.shape)}"
            )
        self._tree.training = self.training
        state = {prefix + name: tensor for name, tensor in named_tensors(self._tree)}
        arguments = (x,) if condition is None else (x, condition)

        def call(state: dict[str, Tensor], *arguments: Any) -> Any:
            # each place once: a module with two names would keep its tensors of this call
            return functional_call(network, state, arguments, tie_weights=False)

        try:
            return vmap(call)(state, *arguments)  # pyright: ignore[reportUnknownMemberType]
        except RuntimeError as error:
            if _ABOUT_VMAP.search(str(error)):
                raise BadArgumentsError(
                    f"replicas must consist of operations of torch.vmap, and draw no noise themselves, got "
                    f"{type(self._tree).__name__} ({_first(error)}); train the networks one by one"
                ) from error
            raise

    def __deepcopy__(self, memo: dict[int, Any]) -> Stacked:
        return Stacked([self.replica(index) for index in range(self.replicas)])

    @override
    def __repr__(self) -> str:
        return f"Stacked({self.replicas} x {self._tree})"


class _Features(nn.Module):
    """A network whose forward pass returns its features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, x: Tensor, condition: Any = None) -> Features:
        features = cast("Callable[..., Features]", self.network.features)
        return features(x, condition)


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(network.named_parameters(), network.named_buffers())


def _first(error: Exception) -> str:
    """Return the first sentence of torch's error."""
    return re.split(r"[.;\n]\s", str(error), maxsplit=1)[0]


def named_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and buffer of every module by name; one that several modules share under each of its names.

    A module with several names is named once.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> [name for name, _ in named_tensors(nn.Sequential(layer, layer))]
        ['0.weight', '0.bias']
    """
    for path, layer in _layers(network):
        own = chain(
            layer.named_parameters(recurse=False, remove_duplicate=False),
            layer.named_buffers(recurse=False, remove_duplicate=False),
        )
        yield from ((f"{path}.{name}" if path else name, tensor) for name, tensor in own)


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(network.named_modules())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _check_alike(networks: Sequence[nn.Module]) -> None:
    for one in (tensor for network in networks for tensor in chain(network.parameters(), network.buffers())):
        if is_lazy(one):
            raise BadArgumentsError(
                "replicas must have weights of known shapes, got a lazy layer; run one batch through each network first"
            )
    first = _forms(networks[0])
    for network in networks:
        # repr shows what has no weights: activations, slopes, strides
        is_alike = type(network) is type(networks[0]) and repr(network) == repr(networks[0])
        if not is_alike or _forms(network) != first:
            raise BadArgumentsError(
                "replicas must have one architecture and differ in nothing but their weights, got "
                f"{type(networks[0]).__name__} and {type(network).__name__} with other parameters, or other ones frozen"
            )
        if any(one._backward_hooks or one._post_accumulate_grad_hooks for one in network.parameters()):  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
            raise BadArgumentsError(
                "replicas are trained by copies of their parameters, which have no hooks, got parameters with hooks; "
                "train the networks one by one"
            )
    for name, layer in _layers(networks[0]):
        if isinstance(layer, _DRAWING):
            raise BadArgumentsError(
                f"replicas draw from generators of their own, which {type(layer).__name__} ({name or 'the network'}) "
                "cannot: build the networks without it, or train them one by one"
            )


def _forms(network: nn.Module) -> dict[str, tuple[object, ...]]:
    return {name: (one.shape, one.dtype, one.requires_grad) for name, one in _tensors(network)}


def check_replica_optimizer(name: str, optimizer: torch.optim.Optimizer) -> None:
    """Raise `BadArgumentsError` for an optimizer whose update of one replica depends on the others.

    Example:
        >>> check_replica_optimizer("generator_optimizer", torch.optim.Adafactor([nn.Parameter(torch.ones(2, 2))]))
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: generator_optimizer must update each element by itself, so that replicas \
do not influence each other, as adam does; got Adafactor
    """
    if type(optimizer).__name__ not in ELEMENTWISE:
        raise BadArgumentsError(
            f"{name} must update each element by itself, so that replicas do not influence each other, as adam does; "
            f"got {type(optimizer).__name__}"
        )
