"""DCGAN on MNIST."""

from __future__ import annotations

from gankit.presets.preset import PRESETS, Preset
from gankit.registry import Spec

dcgan_mnist: Preset = Preset(
    name="dcgan_mnist",
    description="DCGAN on MNIST: convolutions, z = 100 uniform, pictures in [-1, 1] (Radford et al. 2015).",
    data="mnist_5k",
    sample_shape=(1, 28, 28),
    sample_range=(-1.0, 1.0),
    latent=Spec("uniform", latent_dim=100),
    generator=Spec("dcgan", hidden_dim=32),
    discriminator=Spec("dcgan", hidden_dim=32),
    loss="non_saturating",
    generator_optimizer=Spec("adam", lr=2e-4, betas=(0.5, 0.999)),
    discriminator_optimizer=Spec("adam", lr=2e-4, betas=(0.5, 0.999)),
    batch_size=128,
    steps=390,  # 10 epochs of mnist_5k
)
"""DCGAN on MNIST: convolutions, pictures in [-1, 1] (Radford et al. 2015)."""

PRESETS.register(dcgan_mnist.name, dcgan_mnist)
