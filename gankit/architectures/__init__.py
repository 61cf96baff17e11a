"""Generators and discriminators, by name in `GENERATORS` and `DISCRIMINATORS`.

A generator maps latents `(N, latent_dim)` to samples `(N, *sample_shape)`, and a discriminator maps samples to
judgements, so that any generator can be combined with any discriminator. Judgements are logits `(N,)`; `patch` returns
one for each patch, `(N, 1, H', W')`, and `multi_scale` an `Answer` with several heads. Each keeps its layers in
`network`, the inner network, except for `multi_scale`, which has several.
"""

from gankit.architectures.autoencoder import AutoencoderDiscriminator
from gankit.architectures.dcgan import DCGANDiscriminator, DCGANGenerator
from gankit.architectures.mlp import MLPDiscriminator, MLPGenerator, load_lecture_state_dict
from gankit.architectures.multi_scale import MultiScaleDiscriminator
from gankit.architectures.packed import PackedDiscriminator
from gankit.architectures.patch import PatchDiscriminator
from gankit.architectures.registry import DISCRIMINATORS, GENERATORS

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "AutoencoderDiscriminator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "MLPDiscriminator",
    "MLPGenerator",
    "MultiScaleDiscriminator",
    "PackedDiscriminator",
    "PatchDiscriminator",
    "load_lecture_state_dict",
]
