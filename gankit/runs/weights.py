"""The weights of a run: they are checked against the recipe and read, and no code from the files is executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load  # pyright: ignore[reportUnknownVariableType]

from gankit.errors import BadValueError, DataNotFoundError, NonFiniteWarning, warn
from gankit.files import parse_json, read_bytes, replacing
from gankit.latents import LATENTS
from gankit.presets.building import build_networks
from gankit.runs.folder import refused_with
from gankit.runs.recipe import Recipe, read_recipe
from gankit.training.saving.manifest import save_tensors

_MOST_HEADER_BYTES = 1 << 16
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def load_generator(
    folder: str | Path, *, device: torch.device | str = "cpu", replica: int | None = None
) -> torch.nn.Module:
    """Rebuild the generator of a finished run, ready to use; `gankit.load`.

    This reads two files, `recipe.json` and `averaged_generator.safetensors` (or `generator.safetensors` if there is no
    average), and executes no code from them: the recipe names registered parts, and safetensors hold numbers. The
    weights are compared with the network of the recipe before memory is allocated for them.

    Args:
        folder: The folder of the run.
        device: The device of the generator.
        replica: The number of the replica, for a run with replicas. None takes the first.

    Returns:
        The generator in eval mode. Its weights require no gradient.

    Raises:
        DataNotFoundError: For a folder without a recipe or without weights.
        BadArgumentsError: For files that do not fit each other or hold something else.
        BadValueError: For a replica that the run does not have.

    Example:
        >>> from gankit.presets import ring
        >>> from gankit.runs import Run
        >>> _ = Run("run", Recipe(preset=ring.replace(steps=2), device="cpu")).train(progress=False)
        >>> load_generator("run")(torch.randn(5, 258)).shape
        torch.Size([5, 2])
    """
    recipe = read_recipe(folder)
    if replica is not None and not 0 <= replica < (recipe.replicas or 0):
        raise BadValueError(f"replica must be one of the run's {recipe.replicas or 'none'}, got {replica}")
    names = ("averaged_generator.safetensors", "generator.safetensors")
    file = next((path for path in (Path(folder) / name for name in names) if path.is_file()), None)
    if file is None:
        raise DataNotFoundError(f"the run must hold generator.safetensors, got {str(folder)!r} without it")
    with refused_with(f"{file} must hold the recipe's generator"):
        expected, _ = networks_without_memory(recipe)
        state = read_weights(file, expected, recipe.replicas)
        generator, _ = _build(recipe)
        if recipe.replicas is not None:
            state = {name: tensor[replica or 0] for name, tensor in state.items()}
        generator.load_state_dict(state)
    return generator.to(device).eval().requires_grad_(False)


def _build(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    return build_networks(recipe.preset.fields(), LATENTS.build(recipe.preset.latent), recipe.seed)


def networks_without_memory(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return the generator and the discriminator of a recipe on torch's meta device: shapes and types, no values.

    Example:
        >>> from gankit.presets import ring
        >>> G, D = networks_without_memory(Recipe(preset=ring))
        >>> next(G.parameters()).device
        device(type='meta')
    """
    with refused_with("a recipe must describe networks that can be built"), torch.device("meta"):
        return _build(recipe)


def read_weights(file: Path, network: torch.nn.Module, replicas: int | None) -> dict[str, torch.Tensor]:
    """Read weights, after a check that their names, shapes and types are those of a network.

    Args:
        file: The safetensors file.
        network: The network whose weights the file must hold. It may be on the meta device.
        replicas: The number of networks whose weights are stacked in the file, or None for a single network.

    Raises:
        SafetensorError: For a file that holds something else.

    Example:
        >>> from safetensors.torch import save_file
        >>> layer = torch.nn.Linear(2, 1)
        >>> save_file(layer.state_dict(), "layer.safetensors")
        >>> sorted(read_weights(Path("layer.safetensors"), layer, None))
        ['bias', 'weight']
    """
    leading = [] if replicas is None else [replicas]
    wanted = {name: (_TYPES.get(one.dtype), [*leading, *one.shape]) for name, one in network.state_dict().items()}
    most_header_bytes = _MOST_HEADER_BYTES + 1024 * len(wanted)
    tensor_bytes = sum(one.nbytes for one in network.state_dict().values()) * (replicas or 1)
    content = read_bytes(file, 8 + most_header_bytes + tensor_bytes)
    found = _found(content, most_header_bytes)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            kinds = [
                None if one is None else f"{one[0]} {tuple(one[1])}" for one in (wanted.get(name), found.get(name))
            ]
            raise SafetensorError(f"{name[:100]} must have the type and shape {kinds[0]}, got {kinds[1]}")
    return load(content)


def _found(content: bytes, most_header_bytes: int) -> dict[str, tuple[Any, Any]]:
    """Return the type and shape of each tensor in a safetensors file.

    A header that is larger than any that the network can have, or that contains a name twice, is refused. safetensors
    checks the rest when it loads the tensors.
    """
    size = int.from_bytes(content[:8], "little")
    if size > most_header_bytes:
        raise SafetensorError(f"its header must have at most {most_header_bytes} bytes, got {size}")
    try:
        header: Any = parse_json(content[8 : 8 + size] or b"{}")
    except ValueError as error:
        raise SafetensorError(f"its header must be JSON: {error}") from None
    return {name: (about["dtype"], about["shape"]) for name, about in header.items() if name != "__metadata__"}


def write_weights(folder: Path, networks: Mapping[str, torch.nn.Module], replicas: int | None) -> None:
    """Write the weights of networks into the folder of a run, one safetensors file for each network.

    If one of them holds NaN or infinity, none is written: those that were written before stay, and a `NonFiniteWarning`
    says so. With replicas, those that are finite are enough, and the warning names the others.

    Args:
        folder: The folder of the run.
        networks: The networks by the names of their files.
        replicas: The number of replicas that are stacked in each network, or None.

    Raises:
        OutputError: If a file cannot be written.

    Example:
        >>> write_weights(Path(), {"generator": torch.nn.Linear(2, 1)}, None)
        >>> sorted(read_weights(Path("generator.safetensors"), torch.nn.Linear(2, 1), None))
        ['bias', 'weight']
    """
    states = {name: network.state_dict() for name, network in networks.items()}
    broken = _broken_replicas([one for state in states.values() for one in state.values()], replicas or 1)
    if len(broken) == (replicas or 1):
        old = any((folder / f"{name}.safetensors").exists() for name in networks)
        result = f"{folder} keeps those that were written before" if old else "none are written"
        warn(f"weights must be finite to be written, got NaN or infinity; {result}", NonFiniteWarning)
        return
    if broken:
        numbers = ", ".join(map(str, broken))
        warn(f"the weights of replica {numbers} are written with the others, but are NaN or infinite", NonFiniteWarning)
    for name, state in states.items():
        tensors = {key: tensor.contiguous().clone() for key, tensor in state.items()}
        with replacing(folder / f"{name}.safetensors", "the run's folder") as temporary:
            save_tensors(temporary, tensors)


def _broken_replicas(tensors: Iterable[torch.Tensor], replicas: int) -> list[int]:
    """Return the numbers of those replicas whose tensors hold NaN or infinity."""
    finite = torch.ones(replicas, dtype=torch.bool)
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.numel():
            finite &= tensor.isfinite().reshape(replicas, -1).all(1).cpu()
    return [index for index, one in enumerate(finite) if not one]
