"""Toy problems in the plane, whose modes are known, so that it can be counted how many of them a GAN misses."""

from __future__ import annotations

from gankit.presets.preset import PRESETS, Preset
from gankit.registry import Spec

_WIDTHS = (128, 128, 128)

ring: Preset = Preset(
    name="ring",
    description="Eight narrow Gaussians on a circle: perceptrons, one-hot latents, R1 and R2 (Lin et al. 2018).",
    data="ring",
    sample_shape=(2,),
    sample_range=None,
    # one-hot, because a continuous generator of normal latents must connect the modes
    latent=Spec("one_hot_normal", latent_dim=258, categories=256),
    generator=Spec("mlp", widths=_WIDTHS, block="linear_relu"),
    discriminator=Spec("mlp", widths=_WIDTHS),
    loss="non_saturating",
    generator_optimizer=Spec("adam", lr=1e-3, betas=(0.5, 0.999)),
    discriminator_optimizer=Spec("adam", lr=1e-3, betas=(0.5, 0.999)),
    batch_size=256,
    steps=4_000,
    regularizers=(Spec("r1_r2", weight=0.01, every=4),),
    averaging_decay=0.995,
    learning_rate_decay=True,
)
"""Eight narrow Gaussians on a circle, the 2D-ring of Lin et al. 2018."""

grid: Preset = ring.replace(
    name="grid",
    description="Twenty-five narrow Gaussians on a grid, a quarter of the usual size, as in `ring` (Lin et al. 2018).",
    data=Spec("grid", spacing=0.5, standard_deviation=0.0125),
    latent=Spec("one_hot_normal", latent_dim=1026, categories=1024),
    regularizers=(Spec("r1_r2", weight=0.005, every=4),),
)
"""Twenty-five narrow Gaussians on a grid, the 2D-grid of Lin et al. 2018 at a quarter of its size."""

PRESETS.register(ring.name, ring)
PRESETS.register(grid.name, grid)
