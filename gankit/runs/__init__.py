"""A training run on disk: its recipe, its folder, its weights, and how good its samples are."""

from gankit.runs.evaluation import evaluate, evaluation_form, real_points
from gankit.runs.folder import environment, is_new, told, writable_folder
from gankit.runs.recipe import Recipe, check_same_recipe, read_recipe
from gankit.runs.run import Run
from gankit.runs.weights import check_weights, load_generator, plans

__all__ = [
    "Recipe",
    "Run",
    "check_same_recipe",
    "check_weights",
    "environment",
    "evaluate",
    "evaluation_form",
    "is_new",
    "load_generator",
    "plans",
    "read_recipe",
    "real_points",
    "told",
    "writable_folder",
]
