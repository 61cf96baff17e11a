"""Architectures: generators and discriminators, by name in `GENERATORS` and `DISCRIMINATORS`.

Generators take latents `(N, latent_dim)` to samples `(N, *sample_shape)`, discriminators samples to logits
`(N,)`, so any generator meets any discriminator. Each holds its layers in `network`, the inner network.
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
