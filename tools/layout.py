"""The layout of the code: which module may import which. `tests/test_architecture.py` holds the imports against it."""

LAYOUT = {
    "gankit": [
        ["_lazy", "errors", "network_modes", "seeds", "version"],
        ["files", "spec", "devices", "workers"],
        ["registry", "locks"],
        ["answers", "protocols"],
        ["fingerprints"],
        ["context"],
        ["pictures"],
        ["blocks", "losses", "augmentations", "latents", "optimizers"],
        ["regularizers", "architectures"],
        ["data"],
        ["metrics"],
        ["training"],
        ["adversary"],
        ["presets"],
        ["runs"],
        ["compare"],
        ["cli"],
        ["__main__", "testing"],
    ],
    "gankit.training": [
        ["parallel", "fit_ends", "methods"],
        ["step"],
        ["execution"],
        ["feed", "metrics_file"],
        ["non_finite"],
        ["saving"],
        ["attributes"],
        ["trainer"],
        ["evaluation"],
        ["callbacks"],
    ],
    "benchmarks": [
        ["timing"],
        ["floors"],
        ["row"],
        ["scripts"],
        ["others"],
        ["rows"],
        ["policies", "report"],
        ["ranks", "saving", "stacked_mnist", "checkouts", "checkout_worker"],
        ["conftest"],
        ["test_overhead", "test_speed"],
    ],
}
"""For a folder its children line by line. A child may import those in the lines above its own; nothing in a folder
imports the folder's own `__init__.py`."""

NEVER = {
    # names become objects in presets and architectures, nowhere below; a regularizer finds its augmentation by name
    "training": {
        *("registry", "spec", "blocks", "losses", "augmentations", "latents", "optimizers"),
        *("regularizers", "architectures", "data"),
    },
    "architectures": {"losses", "augmentations", "latents", "optimizers"},
    "regularizers": {"blocks", "losses", "latents", "optimizers"},
    "metrics": {
        *("registry", "spec", "pictures", "blocks", "losses", "augmentations", "latents", "optimizers"),
        *("regularizers", "architectures"),
    },
    "data": {"blocks", "losses", "augmentations", "latents", "optimizers", "regularizers", "architectures"},
    # the checks must serve the parts of anybody, so they know the interfaces and none of gankit's parts
    "testing": {
        *("seeds", "version", "devices", "workers", "pictures", "blocks", "losses", "augmentations", "latents"),
        *("optimizers", "regularizers", "architectures", "metrics", "data", "training", "presets", "runs"),
        *("adversary", "compare", "cli", "__main__"),
    },
}
"""For a module of gankit those that it must not import although they stand above it."""
