"""Generators and discriminators, by name in `GENERATORS` and `DISCRIMINATORS`.

A generator maps latents `(N, latent_dim)` to samples `(N, *sample_shape)`, and a discriminator maps samples to logits
`(N,)`, so that any generator can be combined with any discriminator. Each keeps its layers in `network`, the inner
network.
"""

from gankit.architectures.autoencoder import AutoencoderDiscriminator
from gankit.architectures.dcgan import DCGANDiscriminator, DCGANGenerator
from gankit.architectures.mlp import MLPDiscriminator, MLPGenerator, load_lecture_state_dict
from gankit.architectures.packed import PackedDiscriminator
from gankit.architectures.registry import DISCRIMINATORS, GENERATORS

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "AutoencoderDiscriminator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "MLPDiscriminator",
    "MLPGenerator",
    "PackedDiscriminator",
    "load_lecture_state_dict",
]
