"""Every odd value of every argument and every field is taken, or refused in one sentence, one at a time."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gankit.architectures import DISCRIMINATORS, GENERATORS
from gankit.augmentations import AUGMENTATIONS
from gankit.blocks import BLOCKS
from gankit.data import DATASETS
from gankit.latents import LATENTS
from gankit.losses import LOSSES
from gankit.optimizers import OPTIMIZERS
from gankit.presets import Preset
from gankit.registry import Registry, Spec
from gankit.regularizers import REGULARIZERS
from gankit.runs import Recipe
from tests.random_recipes import NESTED, STEPS, WRONG, Draft, try_recipe

SMALL = {
    "generator": Spec("mlp", hidden_dim=2, depth=1),
    "discriminator": Spec("mlp", hidden_dim=2, depth=1),
    "batch_size": 4,
    "steps": STEPS,
}
# how a part of each shelf comes into a recipe, and into which presets
HOLDERS: dict[str, tuple[Registry[Any], tuple[str, ...], Callable[[Spec], dict[str, Any]]]] = {
    "block": (BLOCKS, ("ring",), lambda part: {"generator": Spec("mlp", hidden_dim=2, depth=1, block=part)}),
    "augment": (AUGMENTATIONS, ("vanilla_mnist",), lambda part: {"regularizers": (Spec("consistency", augment=part),)}),
    "regularizer": (REGULARIZERS, ("ring",), lambda part: {"regularizers": (part,)}),
    "generator": (GENERATORS, ("ring", "vanilla_mnist"), lambda part: {"generator": part}),
    "discriminator": (DISCRIMINATORS, ("ring", "vanilla_mnist"), lambda part: {"discriminator": part}),
    "optimizer": (OPTIMIZERS, ("ring",), lambda part: {"generator_optimizer": part}),
    "data": (DATASETS, ("ring",), lambda part: {"data": part}),
    "latent": (LATENTS, ("ring",), lambda part: {"latent": part}),
    "loss": (LOSSES, ("ring",), lambda part: {"loss": part}),
}
ODD = [*WRONG, *NESTED, "meta", "cuda", "x" * 5000]


def drafts_with_an_odd_part(shelf: str) -> Iterator[Draft]:
    """Small recipes, each with one argument of one part that is wrong, or may be."""
    registry, presets, changes = HOLDERS[shelf]
    for name, value in itertools.product(registry.names(), ODD):
        fixed = {"download": False} if name in ("mnist", "fashion_mnist", "stacked_mnist") else {}
        for key in inspect.signature(registry.get(name)).parameters:
            if key not in ("self", "params", "parameters", "download"):
                part = Spec(name, **fixed, **{key: value})
                yield from (Draft(preset, SMALL | changes(part), {"device": "cpu"}) for preset in presets)


def drafts_with_an_odd_field() -> Iterator[Draft]:
    for key, value in itertools.product(inspect.signature(Preset).parameters, ODD):
        yield from (Draft(preset, SMALL | {key: value}, {"device": "cpu"}) for preset in ("ring", "vanilla_mnist"))
    for key, value in itertools.product(inspect.signature(Recipe).parameters, ODD):
        if key != "preset":
            yield Draft("ring", SMALL, {"device": "cpu", key: value})


@pytest.mark.slow
@pytest.mark.parametrize("shelf", HOLDERS)
def test_every_odd_value_of_every_argument_of_a_part_is_taken_or_refused_in_one_sentence(shelf):
    for draft in drafts_with_an_odd_part(shelf):
        try_recipe(draft)


@pytest.mark.slow
def test_every_odd_value_of_every_field_is_taken_or_refused_in_one_sentence():
    for draft in drafts_with_an_odd_field():
        try_recipe(draft)
