"""The names of all parts of gankit, for `gankit list`, which need not import torch to print them.

A test compares them with the registries.
"""

from __future__ import annotations

NAMES: dict[str, tuple[str, ...]] = {
    "augmentations": (
        "horizontal_flip",
        "translation",
    ),
    "blocks": (
        "conv_bn_leaky_relu",
        "conv_leaky_relu",
        "conv_transpose_bn_relu",
        "linear_bn_relu",
        "linear_leaky_relu",
        "linear_relu",
        "maxout",
    ),
    "datasets": (
        "digits_file",
        "fashion_mnist",
        "grid",
        "image_folder",
        "mnist",
        "mnist_5k",
        "ring",
        "stacked_mnist",
        "swiss_roll",
        "two_moons",
    ),
    "discriminators": (
        "autoencoder",
        "dcgan",
        "mlp",
        "packed",
    ),
    "generators": (
        "dcgan",
        "mlp",
    ),
    "latents": (
        "normal",
        "one_hot_normal",
        "uniform",
    ),
    "losses": (
        "energy_based",
        "f_divergence",
        "hinge",
        "least_squares",
        "minimax",
        "non_saturating",
        "relativistic",
        "relativistic_average",
        "relativistic_average_hinge",
        "relativistic_average_least_squares",
        "softmax",
        "wasserstein",
    ),
    "optimizers": (
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "asgd",
        "nadam",
        "radam",
        "replica_adam",
        "rmsprop",
        "rprop",
        "scheduled_sgd",
        "sgd",
    ),
    "presets": (
        "dcgan_mnist",
        "goodfellow_2014_mnist",
        "grid",
        "ring",
        "stacked_mnist",
        "vanilla_mnist",
    ),
    "regularizers": (
        "balanced_consistency",
        "consistency",
        "dragan",
        "feature_matching",
        "lecam",
        "logit_drift",
        "mode_seeking",
        "path_length",
        "r1",
        "r1_r2",
        "r2",
        "wasserstein_gradient_penalty",
        "weight_clipping",
        "zero_centered_interpolated",
    ),
}
"""The names of each kind, sorted."""
