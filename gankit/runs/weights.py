"""Weights for other people: a run's networks, rebuilt from its recipe and its files, and nothing run from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

from gankit.errors import BadValueError, DataNotFoundError
from gankit.latents import LATENTS
from gankit.presets.building import build_networks
from gankit.runs.folder import told
from gankit.runs.recipe import Recipe, read_recipe

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
    """Rebuild the generator of a finished run, ready to use anywhere; `gankit.load`.

    It reads two files, `recipe.json` and `averaged_generator.safetensors` (or `generator.safetensors`, without an
    average), and runs nothing from them: the recipe names registered parts, safetensors are numbers. What the weights
    must look like is known, and held against the file, before memory is taken for them.

    Args:
        folder: of the run.
        device: where the generator goes.
        replica: which one, of a run with replicas; by default the first.

    Returns:
        The generator, in eval mode, its weights requiring no gradient.

    Raises:
        DataNotFoundError: for a folder without recipe or weights.
        BadArgumentsError: for files that do not fit each other, or hold something else.
        BadValueError: for a replica that the run has not.

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
    with told(f"{file} must hold the recipe's generator"):
        plan, _ = plans(recipe)
        check_weights(file, plan, recipe.replicas)
        generator, _ = _build(recipe)
        state = load_file(file)
        if recipe.replicas is not None:
            state = {name: tensor[replica or 0] for name, tensor in state.items()}
        generator.load_state_dict(state)
    return generator.to(device).eval().requires_grad_(False)


def _build(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    return build_networks(recipe.preset.fields(), LATENTS.build(recipe.preset.latent), recipe.seed)


def plans(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a recipe's generator and discriminator, which take no memory.

    Example:
        >>> from gankit.presets import ring
        >>> G, D = plans(Recipe(preset=ring))
        >>> next(G.parameters()).device
        device(type='meta')
    """
    with told("a recipe must describe networks that can be built"), torch.device("meta"):
        return _build(recipe)


def check_weights(file: Path, plan: torch.nn.Module, replicas: int | None) -> None:
    """Hold a file's names, shapes and types against a network without memory.

    Args:
        file: safetensors.
        plan: the network.
        replicas: how many the file holds one behind the other; None for one that is not stacked.

    Raises:
        SafetensorError: for a file that holds something else.

    Example:
        >>> from safetensors.torch import save_file
        >>> layer = torch.nn.Linear(2, 1)
        >>> save_file(layer.state_dict(), "layer.safetensors")
        >>> check_weights(Path("layer.safetensors"), layer, None)
    """
    leading = [] if replicas is None else [replicas]
    wanted = {name: (_TYPES.get(one.dtype), [*leading, *one.shape]) for name, one in plan.state_dict().items()}
    _check_header(file, most_bytes=_MOST_HEADER_BYTES + 1024 * len(wanted))
    opened: Any = safe_open(file, framework="pt")
    with opened as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        found = {name: (one.get_dtype(), one.get_shape()) for name, one in slices.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            kinds = [
                None if one is None else f"{one[0]} {tuple(one[1])}" for one in (wanted.get(name), found.get(name))
            ]
            raise SafetensorError(f"{name[:100]} must have the type and shape {kinds[0]}, got {kinds[1]}")


def _check_header(file: Path, most_bytes: int) -> None:
    """Refuse a table of names that is larger than the network's can be, or that has a name twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise SafetensorError("a name stands twice in its header")
        return table

    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > most_bytes:
            raise SafetensorError(f"its header must have at most {most_bytes} bytes, got {size}")
        json.loads(opened.read(size) or b"{}", object_pairs_hook=once)  # the rest is safetensors' to say
