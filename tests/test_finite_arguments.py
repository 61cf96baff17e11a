"""Every number that a registered part takes is finite, and the error names it."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from gankit import (
    AUGMENTATIONS,
    BLOCKS,
    DATASETS,
    DISCRIMINATORS,
    GENERATORS,
    LATENTS,
    LOSSES,
    OPTIMIZERS,
    REGULARIZERS,
    Spec,
)
from gankit.errors import BadArgumentsError, BadValueError
from gankit.optimizers import build_optimizer

SHELVES = {
    "loss": LOSSES,
    "regularizer": REGULARIZERS,
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "block": BLOCKS,
    "latent": LATENTS,
    "augmentation": AUGMENTATIONS,
    "data": DATASETS,
    "optimizer": OPTIMIZERS,
}
NEEDED = {
    "latent_dim": 4,
    "categories": 2,
    "sample_shape": (1, 28, 28),
    "discriminator": Spec("mlp"),
    "network": torch.nn.Identity(),
}


def numbers():
    """Return the shelf, part and name of each argument that is a number or a sequence of them."""
    found = []
    for shelf, registry in SHELVES.items():
        for name in registry.names():
            for key, parameter in inspect.signature(registry.get(name)).parameters.items():
                default = parameter.default[0] if isinstance(parameter.default, tuple) else parameter.default
                if isinstance(default, float) or "float" in str(parameter.annotation):
                    found.append((shelf, name, key))
    return found


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("shelf", "name", "key"), numbers())
def test_a_number_that_is_not_finite_is_refused(shelf, name, key, value):
    registry = SHELVES[shelf]
    taken = inspect.signature(registry.get(name)).parameters
    needed = {one: given for one, given in NEEDED.items() if one in taken}
    pair = isinstance(taken[key].default, tuple) or "Sequence[float]" in str(taken[key].annotation)
    spec = Spec(name, **(needed | {key: (value, 0.9) if pair else value}))
    build, arguments = registry.build, [4, 4] if shelf == "block" else []
    if shelf == "optimizer":
        build, arguments = build_optimizer, [[torch.nn.Parameter(torch.zeros(2, 2))]]
    with pytest.raises((BadValueError, BadArgumentsError), match="must be|must have"):
        build(spec, *arguments)


def test_all_kinds_of_parts_have_numbers_that_are_tried():
    assert len(numbers()) > 60
