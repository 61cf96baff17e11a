"""Recipes at random, sound ones and damaged ones, and whether they train or say why not."""

from __future__ import annotations

import functools
import inspect
import json
import math
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from gankit.architectures import DISCRIMINATORS, GENERATORS
from gankit.augmentations import AUGMENTATIONS
from gankit.blocks import BLOCKS
from gankit.data import DATASETS
from gankit.errors import GankitError
from gankit.latents import LATENTS
from gankit.losses import LOSSES, LossSchedule
from gankit.optimizers import OPTIMIZERS
from gankit.presets import PRESETS, Preset
from gankit.registry import Registry, Spec
from gankit.regularizers import REGULARIZERS
from gankit.runs import Recipe

STEPS = 2

random = functools.partial(
    settings,
    derandomize=True,
    database=None,
    deadline=None,
    # what fails is shown as it was drawn: shrinking it takes longer than reading it
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


# --- arguments of parts ----------------------------------------------------------------------------------

# too large for torch, never large enough to fill a memory
HUGE = [2**70, 10**400, -(2**70), 1e308, math.inf, -math.inf, math.nan]
WRONG = [None, True, "", "a", "~nobody_of_that_name/x", "a\nb", 0, -1, -0.5, 1.5, 2, (), (1,), ("a", 1), (None,), *HUGE]
NESTED = [Spec("mlp"), Spec("linear_relu"), Spec("translation"), (Spec("mlp"),), ((1, 2), (3,))]

wrong = st.sampled_from([*WRONG, *NESTED])
fractions = st.sampled_from([0.0, 0.25, 0.5, 0.9])
widths = st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple)
linear_blocks = st.sampled_from(["linear_relu", "linear_leaky_relu", "maxout", Spec("maxout", pieces=3)])

# what a signature cannot say
SOUND: dict[str, st.SearchStrategy[Any]] = {
    "hidden_dim": st.integers(1, 6),
    "depth": st.integers(1, 2),
    "widths": widths,
    "kernel_size": st.integers(2, 5),
    "block": linear_blocks,
    "beta2_decay": st.just(-0.8),
    "lr_decay": st.sampled_from([1.0, 1.5]),
    "d": st.just(1.5),
    "lr": st.sampled_from([0.0, 1e-4, 0.01]),
    "latent_dim": st.integers(1, 6),
    "augment": st.sampled_from(["translation", Spec("horizontal_flip", probability=0.0)]),
    "every": st.integers(1, 3),
    "weight": st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    "bound": st.sampled_from([1e-3, 1.0]),
}


def parameters(registry: Registry[Any], name: str) -> dict[str, inspect.Parameter]:
    found = inspect.signature(registry.get(name)).parameters
    left_out = {"self", "sample_shape", "device", "dtype", "params", "parameters", "in_features", "in_channels"}
    left_out |= {"out_features", "out_channels", "num_classes", "output_activation", "condition_channels"}
    return {key: one for key, one in found.items() if key not in left_out}


@functools.cache
def hints(registry: Registry[Any], name: str) -> dict[str, Any]:
    factory = registry.get(name)
    return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)


def sound_value(key: str, hint: Any) -> st.SearchStrategy[Any] | None:
    if key in SOUND:
        return SOUND[key]
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    simple = {bool: st.booleans(), int: st.integers(1, 3), float: fractions.filter(bool)}
    return simple.get(hint)


@st.composite
def sound_part(draw, registry: Registry[Any], names: list[str], leave_out: tuple[str, ...] = (), **fixed: Any) -> Spec:
    """A part with arguments that are known to be right; those that are not stay at their defaults."""
    name = draw(st.sampled_from(names))
    arguments = dict(fixed)
    for key in parameters(registry, name):
        value = sound_value(key, hints(registry, name).get(key))
        if value is not None and key not in {*fixed, *leave_out} and draw(st.booleans()):
            arguments[key] = draw(value)
    return Spec(name, **arguments)


@st.composite
def damaged_part(draw, registry: Registry[Any], part: Spec | None = None) -> Spec | str:
    """A part, of this registry or none, with arguments that may be anything."""
    name = draw(st.sampled_from([*registry.names(), *([part.name] * 5 if part else []), "nothing", "mlpp", "ring"]))
    if name not in registry:
        return draw(st.sampled_from([name, Spec(name, weight=1)]))
    known = sorted(set(inspect.signature(registry.get(name)).parameters) - {"self", "params", "parameters"})
    chosen = draw(st.lists(st.sampled_from([*known, "nothing"]), min_size=1, max_size=2, unique=True))
    arguments = part.arguments if part and part.name == name else {}
    if name in ("mnist", "fashion_mnist", "stacked_mnist"):
        arguments["download"] = False  # nothing is fetched here
    for key in chosen:
        values = [*WRONG, *NESTED, *("meta", "cuda", "float32", "x" * 5000) * (key in ("device", "dtype", "root"))]
        if key != "download":
            arguments[key] = draw(st.sampled_from(values))
    return Spec(name, **arguments)


# --- recipes ---------------------------------------------------------------------------------------------


@dataclass
class Draft:
    """What a recipe is made from, before anything of it is held against the rules."""

    preset: str
    changes: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    def recipe(self) -> Recipe:
        preset = PRESETS.get(self.preset)
        assert isinstance(preset, Preset)
        return Recipe(preset=preset.replace(**self.changes), **self.options)


@st.composite
def sound_drafts(draw) -> Draft:
    """Recipes that must train."""
    preset = draw(st.sampled_from(["ring", "grid", "vanilla_mnist"]))
    pictures = preset == "vanilla_mnist"
    replicas = draw(st.sampled_from([None, None, None, 1, 2]))
    convolutional = pictures and draw(st.integers(0, 3)) == 0
    changes: dict[str, Any] = {"steps": STEPS, "batch_size": draw(st.sampled_from([4, 6, 12]))}
    # 12 latents, so that any code fits
    categories = draw(st.integers(1, 12))
    latents = [Spec("normal", latent_dim=3), Spec("uniform", latent_dim=12)]
    latents.append(Spec("one_hot_normal", latent_dim=12, categories=categories, standard_deviation=draw(fractions)))
    changes["latent"] = draw(st.sampled_from(latents))
    if convolutional:
        changes["generator"] = Spec("dcgan", hidden_dim=draw(st.integers(1, 3)))
        changes["discriminator"] = draw(sound_convolutional_discriminators())
    else:
        block = draw(st.one_of(linear_blocks, st.just("linear_bn_relu")))
        changes["generator"] = Spec("mlp", widths=draw(widths), block=block)
        changes["discriminator"] = draw(sound_discriminators())
    joins = not _mixes(changes["discriminator"])
    if _drops_out(changes["discriminator"]):
        replicas = None  # replicas cannot draw dropout from generators of their own
    if pictures and changes["discriminator"].name != "packed" and draw(st.booleans()):
        changes["num_classes"] = draw(st.integers(10, 12))
    if not pictures:
        names = ["ring", "grid", "swiss_roll", "two_moons"]
        changes["data"] = draw(sound_part(DATASETS, names))
    changes["loss"] = draw(sound_losses())
    changes["regularizers"] = draw(sound_regularizers(pictures, _has_features(changes["discriminator"])))
    for role in ("generator_optimizer", "discriminator_optimizer"):
        names = [name for name in OPTIMIZERS.names() if replicas is None or name != "adafactor"]
        changes[role] = draw(sound_part(OPTIMIZERS, names, leave_out=tuple(_SWITCHES)))
    numbers = {
        "discriminator_steps": st.integers(1, 2),
        "discriminator_warmup_steps": st.sampled_from([0, 0, 0, 1, 10**9]),
        "averaging_decay": st.sampled_from([None, 0.0, 0.9]),
        "max_gradient_norm": st.sampled_from([None, 1e-9, 1.0, math.inf]),
        "learning_rate_decay": st.booleans(),
        "output_bias_from_data": st.booleans() if pictures and not convolutional else st.just(False),
        "precision": st.sampled_from(["float32", "bfloat16"]),
        "execution": st.sampled_from(["auto", "eager"]),
        "share_generator_forward": st.booleans(),
        "simultaneous_updates": st.booleans(),
        "concatenate_discriminator_passes": st.booleans() if joins else st.just(False),
        "on_non_finite": st.sampled_from(["raise", "skip"]) if replicas is None else st.just("raise"),
        "synchronize_batch_norm": st.booleans() if replicas is None else st.just(False),
    }
    changes |= {name: draw(value) for name, value in numbers.items() if draw(st.booleans())}
    return Draft(preset, changes, draw(sound_options(replicas)))


# of torch's optimizers: which of its implementations updates
_SWITCHES = ("foreach", "fused", "capturable", "differentiable", "nesterov")


def _drops_out(part: Spec) -> bool:
    inner = part.arguments.get("discriminator", part)
    return any(inner.arguments.get(name) for name in ("dropout", "input_dropout"))


def _mixes(part: Spec) -> bool:
    """Whether a discriminator joins the samples of a batch."""
    inner = part.arguments.get("discriminator", part)
    if inner.name in ("patch", "pixel") and inner.arguments.get("normalization", "batch") == "batch":
        return True
    if inner.name == "vgg":
        return True
    return bool(part.name in ("packed", "dcgan") or part.arguments.get("minibatch_std"))


def _has_features(part: Spec) -> bool:
    inner = part.arguments.get("discriminator", part)
    return inner.arguments.get("features", inner.name != "patch")


@st.composite
def sound_discriminators(draw) -> Spec:
    inner = draw(sound_part(DISCRIMINATORS, ["mlp", "autoencoder"], leave_out=("widths",), hidden_dim=4, depth=1))
    return Spec("packed", packing=2, discriminator=inner) if draw(st.integers(0, 3)) == 0 else inner


_POSITIONAL = {
    "pixel": {"hidden_dim": 2},
    "unet": {"hidden_dim": 2, "depth": 1},
    "vgg": {"hidden_dim": 2, "depth": 2},
    "blur_patch": {"hidden_dim": 4, "groups": 2, "depth": 1, "positions": 3},
}


@st.composite
def sound_convolutional_discriminators(draw) -> Spec:
    name = draw(st.sampled_from(["dcgan", "patch", "multi_scale", *_POSITIONAL]))
    if name in _POSITIONAL:
        return Spec(name, **_POSITIONAL[name], features=draw(st.booleans()))
    if name == "dcgan":
        options = {option: draw(st.booleans()) for option in ("spectral_norm", "minibatch_std")}
        return Spec("dcgan", hidden_dim=draw(st.integers(1, 3)), **options)
    patch = draw(sound_part(DISCRIMINATORS, ["patch"], hidden_dim=2, depth=1))
    return patch if name == "patch" else Spec("multi_scale", scales=draw(st.integers(1, 2)), discriminator=patch)


@st.composite
def sound_losses(draw) -> Spec | LossSchedule:
    one = sound_part(LOSSES, LOSSES.names())
    return LossSchedule({0: draw(one), 1: draw(one)}) if draw(st.integers(0, 4)) == 0 else draw(one)


@st.composite
def sound_regularizers(draw, pictures: bool, features: bool) -> tuple[Spec, ...]:
    names = [name for name in REGULARIZERS.names() if pictures or not name.endswith("consistency")]
    names = [name for name in names if features or not name.endswith("_matching")]
    chosen = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
    return tuple(draw(sound_part(REGULARIZERS, [name])) for name in chosen)


@st.composite
def sound_options(draw, replicas: int | None) -> dict[str, Any]:
    return {
        "seed": draw(st.sampled_from([0, 1, -1, 2**62])),
        "device": "cpu",
        "replicas": replicas,
        "log_every_steps": draw(st.sampled_from([1, 2, 10**9])),
        "sample_every_steps": draw(st.sampled_from([1, 2, 10**9])),
        "checkpoint_every_steps": draw(st.sampled_from([0, 1, 2, 10**9])),
        "check_every_steps": draw(st.sampled_from([None, 1, 2, 10**9])),
    }


_SHELVES: dict[str, Registry[Any]] = {
    "data": DATASETS,
    "latent": LATENTS,
    "generator": GENERATORS,
    "discriminator": DISCRIMINATORS,
    "loss": LOSSES,
    "generator_optimizer": OPTIMIZERS,
    "discriminator_optimizer": OPTIMIZERS,
}


@st.composite
def drafts(draw) -> Draft:
    """Sound recipes, and as many of which one or two things are anything."""
    draft = draw(sound_drafts())
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        damage(draw, draft)
    return draft


def damage(draw, draft: Draft) -> None:
    kind = draw(st.sampled_from(["part", "part", "part", "field", "option", "regularizer", "block", "unfit"]))
    if kind == "part":
        role = draw(st.sampled_from(sorted(_SHELVES)))
        own = draft.changes.get(role)
        draft.changes[role] = draw(damaged_part(_SHELVES[role], own if isinstance(own, Spec) else None))
    elif kind == "regularizer":
        own = draft.changes["regularizers"]
        own = own if isinstance(own, tuple) else ()
        draft.changes["regularizers"] = (*own, draw(damaged_part(REGULARIZERS)))
    elif kind == "block":  # nested parts
        block, augmentation = draw(damaged_part(BLOCKS)), draw(damaged_part(AUGMENTATIONS))
        if draw(st.booleans()):
            role = draw(st.sampled_from(["generator", "discriminator"]))
            name = draw(st.sampled_from(["mlp", "dcgan", "autoencoder", "patch"]))
            draft.changes[role] = Spec(name, hidden_dim=2, block=block)
        else:
            draft.changes["regularizers"] = (Spec("consistency", augment=augmentation),)
    elif kind == "unfit":  # right by itself, and not beside the others
        values = {
            "discriminator": [
                "dcgan",
                "patch",
                "multi_scale",
                Spec("patch", condition_channels=1),
                Spec("multi_scale", scales=9, discriminator="mlp"),
                Spec("packed", packing=5),
                Spec("mlp", num_classes=3),
            ],
            "generator": [
                "dcgan",
                Spec("mlp", num_classes=3),
                Spec("mlp", latent_dim=2),
                Spec("mlp", sample_shape=(3,)),
            ],
            "batch_size": [1, 3, 7, 5001],
            "num_classes": [None, 1, 9, 10, 11],
            "sample_shape": [(1,), (3,), (28, 28), (1, 28, 28)],
            "sample_range": [None, (-1, 1), (0, 0.5), (2, 1), (0, 1)],
            "data": [
                "mnist_5k",
                "ring",
                "swiss_roll",
                Spec("image_folder", root="nowhere"),
                Spec("mnist", download=False),
            ],
            "regularizers": [("consistency",), ("r1", "r1"), ("feature_matching",), "r1"],
            "execution": ["cuda_graph"],
            "precision": ["tf32"],
            "on_non_finite": ["ignore", None, "rollback"],
            "concatenate_discriminator_passes": [True],
        }
        name = draw(st.sampled_from(sorted(values)))
        draft.changes[name] = draw(st.sampled_from(values[name]))
    else:
        fields = list(inspect.signature(Preset if kind == "field" else Recipe).parameters)
        name = draw(st.sampled_from([*(one for one in fields if one != "preset"), "nothing"]))
        if name == "nothing" and kind == "option":
            return  # Python's own TypeError, of a dataclass
        (draft.changes if kind == "field" else draft.options)[name] = draw(wrong)


def has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_nan, value.values()))
    return any(map(has_nan, value)) if isinstance(value, list) else value != value


def check_message(error: GankitError) -> None:
    """One sentence: which argument, what was given, what would be right."""
    message = str(error)
    assert len(message.split()) > 3
    assert "\n" not in message


def try_recipe(draft: Draft) -> bool:
    """Tell whether a recipe trained; fail where it neither does nor says why not."""
    try:
        recipe = draft.recipe()
        form = recipe.to_dict()
        if not has_nan(form):  # which is not equal to itself
            assert Recipe.from_dict(json.loads(json.dumps(form))) == recipe
        trainer = recipe.preset(
            device=recipe.device, seed=recipe.seed, replicas=recipe.replicas, log_every_steps=recipe.log_every_steps
        )
        batches = recipe.preset.batches(device=trainer.device, seed=recipe.seed, replicas=recipe.replicas)
        trainer.fit(batches, steps=min(STEPS, recipe.preset.steps))
        trainer.read_metrics()
    except GankitError as error:
        check_message(error)
        return False
    assert trainer.steps_done == min(STEPS, recipe.preset.steps)
    return True


# --- damaged forms ---------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["mlp", "ring", "schedule", "name", 2**70]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "schedule", "0", "weight", "a", ""]), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(form: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside a form, its own included."""
    inside = form.items() if isinstance(form, dict) else enumerate(form) if isinstance(form, list) else ()
    return [above, *(path for key, one in inside for path in places(one, (*above, key)))]


@st.composite
def damaged_forms(draw) -> Any:
    form = json.loads(json.dumps(draw(sound_drafts()).recipe().to_dict()))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(form)))
        kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if not path:
            if draw(st.integers(0, 5)) == 0:
                return draw(json_values)
            continue
        holder = functools.reduce(lambda inside, key: inside[key], path[:-1], form)
        if kind == "replace":
            holder[path[-1]] = draw(json_values)
        elif kind == "remove":
            del holder[path[-1]]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(["name", "weight", "schedule", "", "self", "Preset"]))] = draw(json_values)
        else:
            holder.append(draw(json_values))
    return form


def try_form(form: Any) -> bool:
    """Tell whether a form was read as a recipe; fail where it neither was nor is said why not."""
    try:
        recipe = Recipe.from_dict(form)
    except GankitError as error:
        check_message(error)
        return False
    again = recipe.to_dict()
    if not has_nan(again):
        assert Recipe.from_dict(json.loads(json.dumps(again))) == recipe
    return True
