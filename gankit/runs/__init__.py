"""A training run on disk: its recipe, its folder, its weights, and the evaluation of its samples."""

from gankit.runs.evaluated import evaluate_run
from gankit.runs.evaluation import evaluator_for, real_points
from gankit.runs.folder import environment, refused_with
from gankit.runs.recipe import Recipe, check_same_recipe, read_recipe
from gankit.runs.run import Run
from gankit.runs.weights import load_generator, networks_without_memory, read_weights

__all__ = [
    "Recipe",
    "Run",
    "check_same_recipe",
    "environment",
    "evaluate_run",
    "evaluator_for",
    "load_generator",
    "networks_without_memory",
    "read_recipe",
    "read_weights",
    "real_points",
    "refused_with",
]
