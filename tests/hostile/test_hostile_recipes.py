"""Recipes with any value in place of the right one: they load, or are refused in one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gankit.errors import BadArgumentsError, GankitError
from tests.hostile.bounds import LOADS, bounded, refused


def nested(depth):
    form = {"name": "mlp"}
    for _ in range(depth):
        form = {"name": "mlp", "block": form}
    return form


@pytest.fixture
def usual_recursion_limit():
    """Python's own limit, which other packages, such as torch's compiler, raise when they are imported."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


VALUES = [
    *(None, "x", "../../harmed", -1, 0, 10**30, 1.5, [], {}, [1], {"name": 3}, {"name": "../../harmed"}),
    *({"name": "mlp", "widths": widths} for widths in ("abc", [-1], [1.5], [[8]], [10**7] * 2, [1] * 30_000)),
    *({"schedule": schedule} for schedule in ([], {"x": 3}, {"0": 3})),
    *({"name": "normal", "latent_dim": dim} for dim in (10**18, -1, 0)),
    nested(450),
]


def recipes(form):
    for name in form:
        yield from ((f"{name}={value!r:.40}", {**form, name: value}) for value in VALUES)
    for name in form["preset"]:
        preset = form["preset"]
        yield from ((f"{name}={value!r:.40}", {**form, "preset": {**preset, name: value}}) for value in VALUES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what nobody reads
@pytest.mark.parametrize("load", LOADS)
def test_a_recipe_with_any_value_changed_loads_or_is_refused_in_a_sentence(load, run):
    whole = json.loads((run / "recipe.json").read_text())
    tried = 0
    for what, form in recipes(whole):
        (run / "recipe.json").write_text(json.dumps(form))
        with bounded():
            try:
                LOADS[load]()
            except GankitError:
                pass
            except Exception as error:  # noqa: BLE001
                pytest.fail(f"{what}: {type(error).__name__}: {error}")
        tried += 1
    print(f"{tried} recipes")
    assert tried == len(VALUES) * (len(whole) + len(whole["preset"]))


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("seed", "x", "seed must be an integer, got 'x'"),
        ("replicas", [1], "replicas must be an integer, got [1]"),
        ("replicas", 10**15, "must have the type and shape F32 (1000000000000000, 8)"),
        ("replicas", 10**30, "replicas must be at most 3.4e38, or 2^63 - 1 for an integer"),
        ("log_every_steps", None, "log_every_steps must be an integer, got None"),
        ("preset", None, "a preset's JSON form must be a mapping of names to values, got None"),
        ("preset", {"batch_size": "many"}, "a preset's batch_size must be int, got 'many'"),
        ("preset", {"generator": nested(450)}, "a recipe must hold a preset: maximum recursion depth exceeded"),
        ("preset", {"generator": {"name": "../../harmed"}}, "unknown generator '../../harmed'"),
        ("preset", {"generator": {"name": "mlp", "widths": [10**7] * 2}}, "must have the type and shape F32 (10000000"),
        ("preset", {"latent": {"name": "normal", "latent_dim": 10**18}}, "cannot be built here: Storage size"),
    ],
)
def test_a_recipe_that_asks_for_the_impossible_is_refused(name, value, says, load, run, usual_recursion_limit):
    form = json.loads((run / "recipe.json").read_text())
    form[name] = {**form["preset"], **value} if name == "preset" and value else value
    (run / "recipe.json").write_text(json.dumps(form))
    assert says in refused(LOADS[load])


def test_a_recipe_of_many_layers_is_not_read():
    Path("run").mkdir()
    Path("run/recipe.json").write_text(json.dumps({"widths": [1] * 500_000}))
    assert "must have at most 65536 bytes, got 1500012" in refused(LOADS["load"], BadArgumentsError)
