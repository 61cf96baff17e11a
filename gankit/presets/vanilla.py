"""The vanilla GAN on MNIST, as in the lecture."""

from __future__ import annotations

from gankit.presets.preset import PRESETS, Preset
from gankit.registry import Spec

vanilla_mnist: Preset = Preset(
    name="vanilla_mnist",
    description="Vanilla GAN on MNIST: multilayer perceptrons, z = 10, non-saturating (Goodfellow et al. 2014).",
    data="mnist_5k",
    sample_shape=(1, 28, 28),
    sample_range=(0.0, 1.0),
    latent=Spec("normal", latent_dim=10),
    generator="mlp",
    discriminator="mlp",
    loss="non_saturating",
    generator_optimizer=Spec("adam", lr=2e-4, betas=(0.5, 0.999)),
    discriminator_optimizer=Spec("adam", lr=2e-4, betas=(0.5, 0.999)),
    batch_size=128,
    steps=3_120,  # 80 epochs of mnist_5k
)
"""The vanilla GAN on MNIST, as in the lecture (Goodfellow et al. 2014)."""

PRESETS.register(vanilla_mnist.name, vanilla_mnist)
