"""Generators and discriminators, by name in `GENERATORS` and `DISCRIMINATORS`.

A generator maps latents `(N, latent_dim)` to samples `(N, *sample_shape)`, and a discriminator maps samples to
judgements, so that any generator can be combined with any discriminator. Judgements are logits `(N,)`, one for each
position, such as `(N, 1, H', W')` of `patch`, or an `Answer` with several heads, as of `multi_scale`. Most keep their
layers in `network`, the inner network.
"""

from gankit.architectures.autoencoder import AutoencoderDiscriminator
from gankit.architectures.blur_patch import BlurPatchDiscriminator, load_titok_state_dict
from gankit.architectures.dcgan import DCGANDiscriminator, DCGANGenerator
from gankit.architectures.frozen_features import FrozenFeaturesDiscriminator
from gankit.architectures.mlp import MLPDiscriminator, MLPGenerator, load_lecture_state_dict
from gankit.architectures.multi_period import MultiPeriodDiscriminator
from gankit.architectures.multi_resolution_stft import MultiResolutionSTFTDiscriminator, load_encodec_state_dict
from gankit.architectures.multi_scale import MultiScaleDiscriminator
from gankit.architectures.multi_scale_waveform import MultiScaleWaveformDiscriminator, load_hifi_gan_state_dict
from gankit.architectures.packed import PackedDiscriminator
from gankit.architectures.patch import PatchDiscriminator
from gankit.architectures.pixel import PixelDiscriminator
from gankit.architectures.registry import DISCRIMINATORS, GENERATORS
from gankit.architectures.unet import UNetDiscriminator, load_real_esrgan_state_dict
from gankit.architectures.vgg import VGGDiscriminator, load_esrgan_state_dict

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "AutoencoderDiscriminator",
    "BlurPatchDiscriminator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "FrozenFeaturesDiscriminator",
    "MLPDiscriminator",
    "MLPGenerator",
    "MultiPeriodDiscriminator",
    "MultiResolutionSTFTDiscriminator",
    "MultiScaleDiscriminator",
    "MultiScaleWaveformDiscriminator",
    "PackedDiscriminator",
    "PatchDiscriminator",
    "PixelDiscriminator",
    "UNetDiscriminator",
    "VGGDiscriminator",
    "load_encodec_state_dict",
    "load_esrgan_state_dict",
    "load_hifi_gan_state_dict",
    "load_lecture_state_dict",
    "load_real_esrgan_state_dict",
    "load_titok_state_dict",
]
