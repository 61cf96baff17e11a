"""The GAN on MNIST of Goodfellow et al. 2014, with the networks and the optimizer of the paper's own code.

The numbers are those of `mnist.yaml` in https://github.com/goodfeli/adversarial, in the version with uniform noise, and
of the parts of pylearn2 that it names:

| What | Value |
|---|---|
| z | 100 values, uniform in [-sqrt(3), sqrt(3)) |
| generator | 1200 and 1200 rectified linear units, 784 sigmoids; weights uniform in [-0.05, 0.05) |
| bias of the sigmoids | the inverse sigmoid of each pixel's mean, limited to [1e-7, 1 - 1e-7]; others are zero |
| discriminator | 240 and 240 maxout units of 5 pieces, one logit; weights uniform in [-0.005, 0.005), biases zero |
| dropout | of D alone: pixels are kept with probability 0.8 and scaled by 1.25, hidden units with 0.5 and by 2 |
| batch | 100, of the first 50,000 training digits |
| learning rate | 0.1, divided by 1.000004 after each update, at least 0.000001 |
| momentum | 0.5 at first, rising linearly to 0.7 in the 250th epoch |
| losses | non-saturating; that of the discriminator is halved, here by half its learning rate |

As in that code, the gradients of both networks are computed from the same noise and before either is updated
(`simultaneous_updates`); algorithm 1 of the paper updates the discriminator first.

Three things differ. The two passes of the discriminator over the fakes, one for each network's gradient, have dropout
masks of their own. The momentum rises after each update instead of each epoch. And by default the data are the 5,000
digits that come with gankit: `gankit train goodfellow_2014_mnist --data mnist:stop=50000 --root data` takes the
paper's.
"""

from __future__ import annotations

import math

from gankit.presets.preset import PRESETS, Preset
from gankit.registry import Spec

_STEPS = 125_000  # 250 epochs of 50,000 digits

_SCHEDULE = {
    "lr_decay": 1.000004,
    "min_lr": 1e-6,
    "momentum": 0.5,
    "final_momentum": 0.7,
    "momentum_steps": _STEPS - 500,  # the last epoch has the final momentum
}

goodfellow_2014_mnist: Preset = Preset(
    name="goodfellow_2014_mnist",
    description="The first GAN on MNIST: maxout with dropout, SGD, z = 100 uniform (Goodfellow et al. 2014).",
    data="mnist_5k",
    sample_shape=(1, 28, 28),
    sample_range=(0.0, 1.0),
    latent=Spec("uniform", latent_dim=100, limit=math.sqrt(3)),
    generator=Spec("mlp", widths=(1200, 1200), block="linear_relu", initial_range=0.05),
    discriminator=Spec(
        "mlp",
        widths=(240, 240),
        block=Spec("maxout", pieces=5),
        input_dropout=0.2,
        dropout=0.5,
        initial_range=0.005,
    ),
    loss="non_saturating",
    generator_optimizer=Spec("scheduled_sgd", lr=0.1, **_SCHEDULE),
    # half of G's, because the paper's code halves D's loss
    discriminator_optimizer=Spec("scheduled_sgd", lr=0.05, **_SCHEDULE),
    batch_size=100,
    steps=_STEPS,
    simultaneous_updates=True,
    concatenate_discriminator_passes=True,  # faster; nothing in D mixes the samples
    output_bias_from_data=True,
)
"""The first GAN on MNIST, with the networks and the optimizer of the code of Goodfellow et al. 2014."""

PRESETS.register(goodfellow_2014_mnist.name, goodfellow_2014_mnist)
