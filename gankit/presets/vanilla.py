"""The vanilla GAN on MNIST, as in the lecture, and the same networks with better parts around them."""

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

vanilla_mnist_tuned: Preset = vanilla_mnist.replace(
    name="vanilla_mnist_tuned",
    description="Networks of vanilla_mnist, z = 64, relativistic loss, R1 and R2, average (Huang et al. 2024).",
    latent=Spec("normal", latent_dim=64),
    loss="relativistic",
    regularizers=(Spec("r1_r2", weight=0.2),),
    generator_optimizer=Spec("adam", lr=4e-4, betas=(0.5, 0.99)),
    discriminator_optimizer=Spec("adam", lr=4e-4, betas=(0.5, 0.99)),
    averaging_decay=0.9998,
    steps=1_600,  # a minute and a half on two cores
)
"""The networks of `vanilla_mnist` with 64 latents, and a loss, penalties and an average that keep all classes.

The loss compares each real sample with a fake (Jolicoeur-Martineau 2019), the penalties keep D smooth at both (R1 + R2,
Huang et al. 2024), and samples come from an average of the generator's weights.
"""

PRESETS.register(vanilla_mnist.name, vanilla_mnist)
PRESETS.register(vanilla_mnist_tuned.name, vanilla_mnist_tuned)
