"""The names of class folders in a recipe, so that a label means the same folder whenever a run is resumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gankit.data.picture_folder import class_names
from gankit.runs.recipe import Recipe, read_recipe
from gankit.spec import Spec


def with_class_names(recipe: Recipe, folder: Path | None = None) -> Recipe:
    """Return the recipe with the class folders of its pictures, in the order of their labels.

    They are those of the recipe in the folder of a run that is resumed, if its data are otherwise the same. Recipes of
    models without classes, of other data sets, and with names already are returned unchanged.

    Args:
        recipe: The recipe of a run.
        folder: The folder of the run that is resumed. None for a new one.

    Raises:
        DataError: If the pictures' folder cannot be read, or has pictures beside class folders.

    Example:
        >>> from gankit.presets import vanilla_mnist
        >>> for name in ("10", "9"):
        ...     Path("pictures", name).mkdir(parents=True)
        ...     _ = Path("pictures", name, "a.png").write_bytes(b"")
        >>> pictures = Spec("image_folder", root="pictures")
        >>> recipe = Recipe(preset=vanilla_mnist.replace(data=pictures, num_classes=2))
        >>> with_class_names(recipe).preset.data.arguments["classes"]
        ('9', '10')
    """
    data = Spec.of(recipe.preset.data)
    needs_names = data.name == "image_folder" and recipe.preset.num_classes is not None
    if not needs_names or "classes" in data.arguments or "root" not in data.arguments:
        return recipe
    if folder is not None and (folder / "recipe.json").exists():
        known = Spec.of(read_recipe(folder).preset.data)
        without_names = {key: value for key, value in known.arguments.items() if key != "classes"}
        if (known.name, without_names) == (data.name, data.arguments):
            return dataclasses.replace(recipe, preset=recipe.preset.replace(data=known))
    named = data.with_defaults(classes=class_names(data.arguments["root"]))
    return dataclasses.replace(recipe, preset=recipe.preset.replace(data=named))
