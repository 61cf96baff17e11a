"""Stacked digits, whose 1,000 classes show how many modes a GAN misses."""

from __future__ import annotations

from gankit.presets.preset import PRESETS, Preset
from gankit.registry import Spec

stacked_mnist: Preset = Preset(
    name="stacked_mnist",
    description="Three digits in three channels, 1,000 classes: DCGAN, relativistic, R1 and R2 (Lin et al. 2018).",
    data="stacked_mnist",
    sample_shape=(3, 28, 28),
    sample_range=(-1.0, 1.0),
    latent=Spec("uniform", latent_dim=100),
    generator=Spec("dcgan", hidden_dim=32),
    # without BatchNorm, with which the penalties would not be those of single samples
    discriminator=Spec("dcgan", hidden_dim=32, block="conv_leaky_relu"),
    loss="relativistic",
    generator_optimizer=Spec("adam", lr=2e-4, betas=(0.5, 0.99)),
    discriminator_optimizer=Spec("adam", lr=2e-4, betas=(0.5, 0.99)),
    batch_size=128,
    steps=20_000,
    regularizers=(Spec("r1_r2", weight=1.0),),
    averaging_decay=0.999,
)
"""Three digits in three channels, 1,000 classes: DCGAN, relativistic, R1 and R2 (Lin et al. 2018)."""

PRESETS.register(stacked_mnist.name, stacked_mnist)
