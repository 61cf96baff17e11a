"""Loading weights that were published for another implementation of the same network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from gankit.errors import BadArgumentsError


def with_parametrized_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state in which weight and spectral normalisation have the names of torch's parametrizations.

    Older code stores `weight_g` and `weight_v` for a normalised weight, or `weight_orig`, `weight_u` and `weight_v` for
    a spectrally normalised one.

    Example:
        >>> import torch
        >>> list(with_parametrized_names({"a.weight_g": torch.ones(1), "a.weight_v": torch.ones(1)}))
        ['a.parametrizations.weight.original0', 'a.parametrizations.weight.original1']
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        owner, dot, name = key.rpartition(".")
        prefix = f"{owner}{dot}parametrizations.weight."
        spectral = f"{owner}{dot}weight_orig" in state_dict
        new = {
            "weight_g": "original0",
            "weight_orig": "original",
            "weight_u": "0._u",
            "weight_v": "0._v" if spectral else "original1",
        }.get(name)
        renamed[key if new is None else prefix + new] = tensor
    return renamed


def load_published(
    network: nn.Module,
    state_dict: Mapping[str, Tensor],
    owners: Mapping[str, str],
    source: str,
    *,
    constants: str | None = None,
) -> None:
    """Load published weights into a network whose layers have other names.

    Args:
        network: The network that gets the weights.
        state_dict: The published weights.
        owners: For the name of each published layer the name of the network's own.
        source: Whose weights they are, for messages.
        constants: The last part of the names of published tensors that are no weights, which are left out.

    Raises:
        BadArgumentsError: If weights are missing, superfluous, or of another shape. Nothing is changed then.

    Example:
        >>> layer = nn.Sequential(nn.Linear(2, 1))
        >>> load_published(layer, {"fc.weight": layer[0].weight, "fc.bias": layer[0].bias}, {"fc": "0"}, "a paper's")
    """
    if not isinstance(state_dict, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadArgumentsError(f"state_dict must be a mapping of names to weights, got a {type(state_dict).__name__}")
    renamed: dict[str, Tensor] = {}
    weights = {key: one for key, one in state_dict.items() if key.rpartition(".")[2] != constants}
    for key, tensor in with_parametrized_names(weights).items():
        before = [owner for owner in owners if key.startswith(owner + ".")]
        owner = max(before, key=len, default=None)
        renamed[key if owner is None else owners[owner] + key.removeprefix(owner)] = tensor
    own = network.state_dict()
    missing, superfluous = sorted(own.keys() - renamed.keys()), sorted(renamed.keys() - own.keys())
    if missing or superfluous:
        raise BadArgumentsError(
            f"{source} weights for a {type(network).__name__} must have its layers, got {len(missing)} missing "
            f"({', '.join(missing[:2]) or 'none'}) and {len(superfluous)} superfluous "
            f"({', '.join(superfluous[:2]) or 'none'}); build the network with the sizes of the published one"
        )
    for key, tensor in own.items():
        if tensor.shape != renamed[key].shape:
            raise BadArgumentsError(
                f"{source} weights must fit the {type(network).__name__}: {key} must have the shape "
                f"{tuple(tensor.shape)}, got {tuple(renamed[key].shape)}"
            )
    network.load_state_dict(renamed)
