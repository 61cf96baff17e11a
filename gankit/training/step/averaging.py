"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]

from gankit.errors import BadArgumentsError, DeviceError
from gankit.protocols import State
from gankit.training.step.options import check_averaging_decay
from gankit.training.step.structure import are_same, layers_and_tensors

_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


class WeightAverage(nn.Module):
    """An exponential moving average of a network's weights (Polyak & Juditsky 1992; Yazici et al. 2019 for GANs).

    Formula: `average <- d * average + (1 - d) * weights`, with `d = min(decay, (1 + n) / (10 + n))` after n updates, so
    that an average of few updates consists of the newer half of them rather than of the first weights. The first update
    copies the weights. The half-life of a weight is at most `log 0.5 / log decay` updates: 693 for a decay of 0.999.

    The averaged network is one that the network could have been. Averaged are the parameters that require a gradient,
    and the running means and variances of BatchNorm and InstanceNorm. Everything else is copied: frozen parameters, all
    other buffers, such as the vectors of the power method in spectral normalisation, and numbers that are attributes of
    the layers. The average of a number in float16 or bfloat16 is kept in float32 and rounded for the network.

    As an attribute of a module, the average is saved, loaded, moved and copied with it. Its `state_dict` holds the
    averaged network, the number of updates, and the averages that are kept in float32. The network that is averaged is
    not a submodule of the average. Each update takes the network's present tensors and makes the average in their
    type and on their device. The averaged network stays in eval mode and requires no gradient: it is not among the
    modules and parameters that a surrounding module lists, so that neither its `requires_grad_(True)` nor its
    optimizer reaches the averages.

    Args:
        network: The network whose weights are averaged.
        decay: The highest decay per update, in [0, 1).
        ramp: Let the decay grow with the number of updates, as in the formula. Otherwise `d = decay`.

    Attributes:
        updates_done: The number of updates that were counted.

    Raises:
        BadValueError: for a decay outside [0, 1).

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> average = WeightAverage(layer, decay=0.5, ramp=False)
        >>> for value in (0.0, 1.0):
        ...     _ = nn.init.constant_(layer.weight, value)
        ...     average.update()
        >>> average.network.weight.item()
        0.5
    """

    def __init__(self, network: nn.Module, decay: float, *, ramp: bool = True) -> None:
        super().__init__()
        self.updates_done: int = 0
        self.decay = decay
        self.ramp = ramp
        self._sources = (network,)  # in a tuple it is not a submodule, which would be saved with the average
        self._modules["network"] = _copy_of(network)
        self._pairs: list[_Pair] = _pairs(self._network, network)
        self._known = layers_and_tensors(network)
        self._own = layers_and_tensors(self._network)
        self._follows_places = False  # whether torch may have put other tensors in the place of the network's
        self._device_weight: Tensor | None = None
        self._written_weight = 0.0
        self._place_weight()
        self.eval()
        self._write_weight()

    @property
    def decay(self) -> float:
        """The largest share of the average that an update keeps. It may be changed between two updates."""
        return self._decay

    @decay.setter
    def decay(self, decay: float) -> None:
        check_averaging_decay(decay)
        self._decay = decay

    @property
    def present_decay(self) -> float:
        """The share of the average that the next update keeps. The first update keeps nothing, whatever this is.

        Example:
            >>> WeightAverage(nn.Linear(1, 1), decay=0.999).present_decay
            0.1
        """
        ramped = (1 + self.updates_done) / (10 + self.updates_done)
        return min(self.decay, ramped) if self.ramp else self.decay

    @property
    def network(self) -> nn.Module:
        """The averaged network, in eval mode, with parameters that require no gradient.

        Its `state_dict` has the keys of the original. It is another object after layers of the original have been
        replaced.
        """
        _copy_numbers(self._network, self._source)
        return self._network

    @property
    def _network(self) -> nn.Module:
        return cast(nn.Module, self._modules["network"])

    @property
    def _source(self) -> nn.Module:
        return self._sources[0]

    @property
    def is_first(self) -> bool:
        """Whether the next update is the first one, which copies the weights."""
        return not self.updates_done

    def update(self) -> None:
        """Update the average with the network's present weights, and count the update."""
        self.prepare(self._source)
        self.move()
        self.count()

    def count(self) -> None:
        """Count an update that `move`, or the replay of a captured step that contains it, has made."""
        self.updates_done += 1

    def prepare(self, network: nn.Module) -> bool:
        """Get ready for the next `move`, outside a captured step: follow changes of the network, and set the weight.

        A parameter that has taken the place of another one begins a new average, and so do the tensors of a new layer.
        The averages of tensors that were moved to another device, or converted to another type, go on. If the
        network's layers, shapes, ties, types or devices have changed, so do those of the averaged network.

        Args:
            network: The network whose weights are averaged from now on.

        Returns:
            Whether `move` now reads or writes other tensors than before.

        Raises:
            BadArgumentsError: for a network that contains this average.
            DeviceError: for a network or an average on the device `meta`, where there are no values.
        """
        before, known = self._pairs, layers_and_tensors(network)
        if (
            self._follows_places
            or not are_same(known, self._known)
            or not are_same(layers_and_tensors(self._network), self._own)
            or any(pair.has_changed_form() or pair.source.is_meta for pair in before)
        ):
            self._follow(network, known)
        self._write_weight()
        if self._pairs is before:
            return False
        return [pair.tensor_ids() for pair in self._pairs] != [pair.tensor_ids() for pair in before]

    @torch.no_grad()
    def move(self) -> None:
        """Make an update on the device without counting it."""
        averaged = [pair for pair in self._pairs if pair.is_averaged]
        targets = [pair.target if pair.master is None else pair.master for pair in averaged]
        sources = [pair.source.to(target.dtype) for pair, target in zip(averaged, targets, strict=True)]
        if not averaged:
            pass
        elif self.is_first:  # the first update copies, so that the random initial weights leave no trace
            torch._foreach_copy_(targets, sources)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        elif self._device_weight is None:
            _foreach_lerp(targets, sources, 1 - self.present_decay)
        else:
            move_towards(targets, sources, self._device_weight)
        for pair in self._pairs:
            if not pair.is_averaged:
                pair.target.copy_(pair.source)
                if pair.master is not None:
                    pair.master.copy_(pair.source)
            elif pair.master is not None:
                pair.target.copy_(pair.master)

    @torch.no_grad()
    def estimate_statistics(self, inputs: Iterable[tuple[Tensor, ...]]) -> None:
        """Replace the running statistics of the averaged network's BatchNorm layers by those of its own activations.

        The averaged statistics are those of the networks that the average consists of. These are the means over the
        given batches, as in stochastic weight averaging (Izmailov et al. 2018, section 3.2). Later updates of the
        average continue from them. This is collective for BatchNorm that is synchronised between ranks.

        Args:
            inputs: The arguments of each forward pass: `(latents,)`, or `(latents, condition)`.

        Example:
            >>> average = WeightAverage(nn.BatchNorm1d(1), decay=0.9)
            >>> average.estimate_statistics([(torch.tensor([[1.0], [3.0]]),)])
            >>> average.network.running_mean
            tensor([2.])
        """
        network = self.network
        layers = [one for one in network.modules() if isinstance(one, _NormBase) and one.track_running_stats]
        momenta = [layer.momentum for layer in layers]
        try:
            for index, one in enumerate(inputs):
                for layer in layers:  # not the whole network, because dropout would draw random numbers
                    layer.training, layer.momentum = True, 1 / (index + 1)
                network(*one)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.training, layer.momentum = False, momentum
        self._look_up_targets()
        for pair in self._pairs:
            if pair.is_statistic and pair.master is not None:
                pair.master.copy_(pair.target)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Generator[tuple[str, Any]]:
        """Yield the average alone, without the averaged network.

        The parameters of a surrounding module are those of the modules that it lists.

        Example:
            >>> model = nn.ModuleDict({"layer": nn.Linear(1, 1)})
            >>> model["average"] = WeightAverage(model["layer"], decay=0.9)
            >>> [name for name, _ in model.named_parameters()]
            ['layer.weight', 'layer.bias']
        """
        memo = set() if memo is None else memo
        if self not in memo:
            if remove_duplicate:
                memo.add(self)
            yield prefix, self

    def tensors(self) -> list[Tensor]:
        """Return every tensor that an update can change."""
        return [*_tensors(self._network), *self._masters().values()]

    def train(self, mode: bool = True) -> Self:
        """Leave the averaged network in eval mode, whatever the mode of the surrounding module."""
        return super().train(False)

    def nested_state_dict(self) -> dict[str, Any]:
        """Return what `state_dict` does, as a checkpoint of the trainer holds it.

        Example:
            >>> list(WeightAverage(nn.Linear(1, 1), decay=0.9).nested_state_dict())
            ['network', 'updates_done']
        """
        state = {"network": self._network.state_dict(), "updates_done": self.updates_done}
        masters = self._masters()
        return state | ({"masters": masters} if masters else {})

    def load_nested_state_dict(self, state: State) -> None:
        """Continue from what `nested_state_dict` returned.

        Raises:
            BadArgumentsError: for the float32 averages of another network.
        """
        own = self._masters()
        masters: dict[str, Tensor] = state.get("masters") or {}
        if masters and {name: one.shape for name, one in masters.items()} != {n: one.shape for n, one in own.items()}:
            raise BadArgumentsError(f"the average must have float32 averages of {sorted(own)}, got {sorted(masters)}")
        self._network.load_state_dict(state["network"])
        for pair in self._pairs:
            if pair.master is not None:
                pair.master.copy_(masters.get(pair.name, pair.target))
        self.updates_done = state["updates_done"]

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        cast(Any, super())._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}updates_done"] = torch.tensor(self.updates_done)
        destination.update({f"{prefix}masters.{name}": master for name, master in self._masters().items()})

    @torch.no_grad()
    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        cast(Any, super())._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        masters, count = self._masters(), f"{prefix}updates_done"
        loaded: dict[str, Tensor] = {}
        own = {count, *(f"{prefix}masters.{name}" for name in masters)}
        unexpected_keys[:] = [key for key in unexpected_keys if key not in own]
        if count in state_dict:
            self.updates_done = int(state_dict[count])
        elif strict:
            missing_keys.append(count)
        for name, master in masters.items():
            # a state that was saved in float32 has no averages besides the network
            saved = state_dict.get(f"{prefix}masters.{name}", state_dict.get(f"{prefix}network.{name}"))
            if saved is not None and saved.shape == master.shape:
                loaded[name] = saved
            elif saved is not None:
                error_msgs.append(
                    f"the average of {name} must be of shape {tuple(master.shape)}, got {tuple(saved.shape)}"
                )
        for index, pair in enumerate(self._pairs):
            if pair.master is None or pair.name not in loaded:
                continue
            if pair.master.is_meta:  # which keeps no values, and is assigned like the others
                self._pairs[index] = pair._replace(master=loaded[pair.name].float().clone())
            else:
                pair.master.copy_(loaded[pair.name])
        self._follows_places |= bool(local_metadata.get("assign_to_params_buffers"))

    @torch.no_grad()
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and convert the averages with the averaged network. Those in float32 remain so on any device."""
        before = [pair.target.detach() if pair.master is None else pair.master for pair in self._pairs]
        cast(Any, super())._apply(fn, recurse)
        self._look_up_targets()
        self._follows_places |= torch.__future__.get_overwrite_module_params_on_conversion()
        for index, (pair, best) in enumerate(zip(self._pairs, before, strict=True)):
            best = pair.target if best.is_meta else best
            if pair.master is not None:
                pair.target.copy_(best)
            master = best.to(pair.target.device, torch.float32) if _needs_master(pair) else None
            self._pairs[index] = pair._replace(master=master)
        self._place_weight()
        return self

    def _masters(self) -> dict[str, Tensor]:
        return {pair.name: pair.master for pair in self._pairs if pair.master is not None}

    def _write_weight(self) -> None:
        weight = 1 - self.present_decay
        if self._device_weight is not None and weight != self._written_weight:
            self._device_weight.fill_(weight)
            self._written_weight = weight

    def _place_weight(self) -> None:
        devices = {pair.target.device for pair in self._pairs if pair.target.is_cuda}
        # on a GPU the weight of the new values lies there too, so that a captured update reads its present value
        if not devices:
            self._device_weight = None
        elif self._device_weight is None or self._device_weight.device not in devices:
            self._device_weight, self._written_weight = torch.zeros((), device=devices.pop()), 0.0

    def _look_up_targets(self) -> None:
        """Pair the tensors that are now in the averaged network, where torch may have put others."""
        present = {name: tensor for name, _, tensor in _places(self._network)}
        self._pairs = [pair._replace(target=present.get(pair.name, pair.target)) for pair in self._pairs]
        self._own = layers_and_tensors(self._network)

    @torch.no_grad()
    def _follow(self, network: nn.Module, known: list[object]) -> None:
        """Pair the tensors anew, and keep the averages of those that are still there."""
        if any(layer is self for layer in network.modules()):
            raise BadArgumentsError(
                f"network must not contain its own average, got {type(network).__name__}, which does; average the part "
                "of it that is trained"
            )
        without_values = [name for name, _, tensor in _places(network) if tensor.is_meta]
        if without_values:
            self._follows_places = True
            raise DeviceError(f"network must be on a device that holds values, got its {without_values[0]} on 'meta'")
        before = self._pairs
        self._look_up_targets()
        without_values = [pair.name for pair in self._pairs if pair.target.is_meta]
        if without_values and not self.is_first:
            raise DeviceError(
                f"the averaged network must be on a device that holds values, got its {without_values[0]} on 'meta'; "
                "load the average, or make a new one"
            )
        for index, (pair, old) in enumerate(zip(self._pairs, before, strict=True)):
            if pair.target is not old.target and pair.master is not None and not self._follows_places:
                self._pairs[index] = pair._replace(master=pair.target.float())  # the owner has put it there
        by_source = {id(pair.source): pair for pair in self._pairs}
        by_place = {pair.place: pair for pair in self._pairs}
        if _form(network) != _form(self._network):
            self._modules["network"] = _copy_of(network)
        _require_no_gradient(self._network)
        self._sources, self._known = (network,), known
        self._own = layers_and_tensors(self._network)
        pairs: list[_Pair] = []
        for pair in _pairs(self._network, network):
            earlier = by_source.get(id(pair.source))
            if earlier is None and (other := by_place.get(pair.place)) is not None:
                # torch moves a buffer, and loads with assign=True, by putting another tensor in its place
                is_buffer = not isinstance(pair.source, nn.Parameter)
                earlier = other if is_buffer or self._follows_places or pair.has_moved(other) else None
            pairs.append(pair.continuing(earlier))
        self._pairs, self._follows_places = pairs, False
        self._place_weight()


class _Pair(NamedTuple):
    """A tensor of the averaged network, and the one of the network that it follows."""

    name: str
    layer: nn.Module
    target: Tensor
    source: Tensor
    master: Tensor | None
    is_averaged: bool
    is_statistic: bool

    def tensor_ids(self) -> tuple[int, int, int]:
        """Return which tensors an update reads and writes."""
        return id(self.target), id(self.source), id(self.master)

    @property
    def place(self) -> tuple[int, str]:
        """The layer of the network, and the name of the tensor in it."""
        return id(self.layer), self.name.rpartition(".")[2]

    def has_changed_form(self) -> bool:
        """Return whether the tensor of the network was moved, converted or reshaped without that of the average."""
        target, source = self.target, self.source
        return target.dtype != source.dtype or target.device != source.device or target.shape != source.shape

    def has_moved(self, earlier: _Pair) -> bool:
        """Return whether the tensor of the network is that of an earlier pair in another object.

        `Module.to` makes other parameters if torch is set to do so, even where nothing is to be changed.
        """
        here, there = self.source, earlier.source
        if (here.dtype, here.device) != (there.dtype, there.device):
            return True
        return torch.equal(here, there)

    def continuing(self, earlier: _Pair | None) -> _Pair:
        """Take over the average of an earlier pair, or begin with the values of the source."""
        best = None if earlier is None else earlier.target if earlier.master is None else earlier.master
        if earlier is None or best is None or best.is_meta or best.shape != self.target.shape:
            best = self.source
        else:
            if self.master is not None and earlier.master is not None and best.device == self.target.device:
                self.target.copy_(best)
                return self._replace(master=best)
        self.target.copy_(best)
        if self.master is not None:
            self.master.copy_(best)
        return self


def _needs_master(pair: _Pair) -> bool:
    is_half = pair.target.dtype in (torch.float16, torch.bfloat16)
    return is_half and (pair.is_statistic or isinstance(pair.target, nn.Parameter))


def _pairs(network: nn.Module, source: nn.Module) -> list[_Pair]:
    found: dict[int, _Pair] = {}
    for (name, layer, target), (_, own, original) in zip(_places(network), _places(source), strict=True):
        is_statistic = isinstance(layer, _NormBase) and name.endswith(("running_mean", "running_var"))
        is_number = target.is_floating_point() or target.is_complex()
        is_averaged = is_number and (original.requires_grad or is_statistic)
        pair = _Pair(name, own, target, original, None, is_averaged, is_statistic)
        master = target.detach().float() if _needs_master(pair) else None
        found.setdefault(id(target), pair._replace(master=master))
    return list(found.values())


def _places(network: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield the name, layer and tensor of each parameter and buffer, tied ones under each of their names."""
    for prefix, layer in _layers(network):
        for name, tensor in (*layer._parameters.items(), *layer._buffers.items()):
            if tensor is not None:
                yield f"{prefix}.{name}" if prefix else name, layer, tensor


def _layers(network: Any) -> Iterable[tuple[str, Any]]:
    return network.named_modules(remove_duplicate=False)


def _form(network: nn.Module) -> list[object]:
    """Return what two networks must share for the tensors of one to be averages of the other's."""
    first: dict[int, str] = {}
    return [
        *((name, type(layer)) for name, layer in _layers(network)),
        *(
            (name, first.setdefault(id(tensor), name), tensor.shape, tensor.dtype, tensor.device)
            for name, _, tensor in _places(network)
        ),
    ]


def _copy_of(network: nn.Module) -> nn.Module:
    # torch's old spectral_norm and weight_norm leave a computed weight in the layer, which deepcopy refuses
    computed = [one for layer in network.modules() for one in vars(layer).values() if isinstance(one, Tensor)]
    memo: dict[int, Any] = {id(one): one.detach().clone() for one in computed if not one.is_leaf}
    averaged = copy.deepcopy(network, memo).eval()
    _require_no_gradient(averaged)
    return averaged


def _require_no_gradient(network: nn.Module) -> None:
    for parameter in network.parameters():  # a scripted module has no requires_grad_
        parameter.detach_()


def _is_plain(value: object) -> bool:
    """Return whether two networks may share a value: a number or a text, or a tuple of them, but not of layers."""
    is_tuple = isinstance(value, tuple) and all(map(_is_plain, cast("tuple[object, ...]", value)))
    return is_tuple or isinstance(value, _PLAIN)


def _copy_numbers(network: nn.Module, source: nn.Module) -> None:
    """Copy the attributes of each layer that are numbers or texts, such as the blend of a progressive network."""
    layers: Iterable[tuple[nn.Module, nn.Module]] = zip(network.modules(), source.modules(), strict=False)
    for layer, original in layers:
        own = vars(layer)
        for name, value in vars(original).items():
            if _is_plain(value) and name != "training":
                own[name] = value
            elif isinstance(value, Tensor) and not value.requires_grad:
                own[name] = value.detach().clone()


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


@torch.no_grad()
def move_towards(targets: list[Tensor], sources: list[Tensor], weight: Tensor) -> None:
    """Move each target towards its source: `target + weight * (source - target)`, with a weight on the device.

    Example:
        >>> target = torch.zeros(2)
        >>> move_towards([target], [torch.ones(2)], torch.tensor(0.25))
        >>> target
        tensor([0.2500, 0.2500])
    """
    steps = torch._foreach_sub(sources, targets)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    torch._foreach_mul_(steps, weight)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    torch._foreach_add_(targets, steps)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


def _foreach_lerp(targets: list[Tensor], sources: list[Tensor], weight: float) -> None:
    torch._foreach_lerp_(targets, sources, weight)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
