"""The discriminator of EnCodec, which sees a sound as spectrograms of several resolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator
from gankit.architectures.block_stacks import given_options
from gankit.architectures.layers import normalise_weights
from gankit.architectures.published import load_published
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadValueError, check_count

_DILATIONS = (1, 2, 4)


@DISCRIMINATORS.register("multi_resolution_stft")
class MultiResolutionSTFTDiscriminator(PositionalDiscriminator):
    """One head per resolution of the complex short-time Fourier transform (Défossez et al. 2022, EnCodec, sec. 3.4).

    Formula: for each resolution, the transform with a Hann window w, without padding, divided by `sqrt(sum(w^2))`; real
    and imaginary parts are channels of a picture of `frames x frequencies`. A convolution of 3x9 to `hidden_dim`
    channels; three of 3x9 with a stride of 2 along the frequencies and dilations of 1, 2 and 4 along the frames; one of
    3x3, each with LeakyReLU(0.2); a last one of 3x3 gives the logits. All but the first have weight normalisation
    (Salimans & Kingma 2016). One channel and the defaults give 283,398 parameters in all, as the published code does;
    with `normalize_first` there are 283,494.

    The transform is linear, so gradients of any order exist, also in silence. It is computed in float32 in half
    precision.

    Args:
        sample_shape: `(C, T)`. Other lengths do as well.
        n_ffts: The sizes of the transforms, in samples.
        hop_lengths: For each of them the distance of its frames. None takes a quarter of each size.
        win_lengths: For each of them the length of its window. None takes its size.
        hidden_dim: The number of channels of the convolutions.
        normalize_first: Whether the first convolution has weight normalisation too.
        features: Whether to return features as well, from the same forward pass: for each head the output of each
            LeakyReLU.
        num_classes: The number of classes of a conditional discriminator, which gets one more channel per class. None
            for one without labels.
        condition_channels: The number of channels of a condition as long as the waveform, which is joined to it as
            further channels. None for one without such a condition.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        discriminators: For each resolution its convolutions.
        minimum_size: The smallest length, the size of the largest transform.

    Raises:
        BadArgumentsError: If both `num_classes` and `condition_channels` are given, or a condition is missing or not
            expected.
        BadValueError: If a number is too small, the sequences have different lengths, or a window is longer than its
            transform.
        ShapeError: If waveforms or conditions have another shape, or are shorter than `minimum_size`.

    Example:
        >>> D = MultiResolutionSTFTDiscriminator((1, 512), n_ffts=(128, 64), hidden_dim=4)
        >>> [tuple(head.shape) for head in D(torch.randn(2, 1, 512)).heads]
        [(2, 1, 13, 9), (2, 1, 29, 5)]
    """

    kind: str = "multi_resolution_stft"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        n_ffts: Sequence[int] = (1024, 2048, 512),
        hop_lengths: Sequence[int] | None = None,
        win_lengths: Sequence[int] | None = None,
        hidden_dim: int = 32,
        normalize_first: bool = False,
        features: bool = True,
        num_classes: int | None = None,
        condition_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("hidden_dim", hidden_dim)
        if not n_ffts:
            raise BadValueError(f"n_ffts must be one or more numbers, got {n_ffts}")
        hops = [max(size // 4, 1) for size in n_ffts] if hop_lengths is None else list(hop_lengths)
        windows = list(n_ffts if win_lengths is None else win_lengths)
        for name, numbers in (("n_ffts", n_ffts), ("hop_lengths", hops), ("win_lengths", windows)):
            for number in numbers:
                check_count(name, number)
            if len(numbers) != len(n_ffts):
                raise BadValueError(f"{name} must be one for each of the {len(n_ffts)} n_ffts, got {len(numbers)}")
        for size, window in zip(n_ffts, windows, strict=True):
            if window > size:
                raise BadValueError(f"win_lengths must be at most n_ffts, got {window} for {size}")
        super().__init__(
            sample_shape,
            dimensions=1,
            num_classes=num_classes,
            condition_channels=condition_channels,
            features=features,
        )
        self.n_ffts: tuple[int, ...] = tuple(n_ffts)
        self.hop_lengths: tuple[int, ...] = tuple(hops)
        self.minimum_size: int = max(self.n_ffts)
        self.check_size(self.sample_shape)
        factory = given_options(device, dtype)
        for index, (size, length) in enumerate(zip(self.n_ffts, windows, strict=True)):
            values = torch.hann_window(length, device=device)
            values = values / values.square().sum().sqrt()
            left = (size - length) // 2  # a shorter window lies in the middle
            # the same in every discriminator, so it is not part of the state_dict
            self.register_buffer(f"window_{index}", F.pad(values, (left, size - length - left)), persistent=False)
        self.discriminators: nn.ModuleList = nn.ModuleList()
        for _ in self.n_ffts:
            first = nn.Conv2d(2 * self.input_channels, hidden_dim, (3, 9), padding=(1, 4), **factory)
            others = nn.ModuleList(
                [
                    *(
                        nn.Conv2d(
                            hidden_dim,
                            hidden_dim,
                            (3, 9),
                            stride=(1, 2),
                            dilation=(dilation, 1),
                            padding=(dilation, 4),
                            **factory,
                        )
                        for dilation in _DILATIONS
                    ),
                    nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, **factory),
                    nn.Conv2d(hidden_dim, 1, 3, padding=1, **factory),
                ]
            )
            normalise_weights(others)
            if normalize_first:
                normalise_weights(first)
            self.discriminators.append(nn.ModuleList([first, *others]))

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits of each resolution, `(N, 1, frames, frequencies)`, and its features."""
        heads: list[Tensor] = []
        features: list[list[Tensor]] = []
        for index, layers in enumerate(self.discriminators):
            picture = self.spectrogram(x, index)
            outputs: list[Tensor] = []
            *hidden, last = layers.children()
            for layer in hidden:
                picture = F.leaky_relu(layer(picture), 0.2)
                outputs.append(picture)
            heads.append(last(picture))
            features.append(outputs)
        return tuple(heads), features

    def spectrogram(self, x: Tensor, index: int) -> Tensor:
        """Return what one resolution sees of waveforms `(N, C, T)`: `(N, 2 C, frames, frequencies)`.

        Args:
            x: The waveforms.
            index: The place of the resolution in `n_ffts`.
        """
        window: Tensor = getattr(self, f"window_{index}")
        number = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        frames = x.to(number).unfold(-1, self.n_ffts[index], self.hop_lengths[index]) * window.to(number)
        if not frames.shape[0]:  # which the libraries for Fourier transforms refuse
            return x.new_zeros(0, 2 * x.shape[1], frames.shape[2], self.n_ffts[index] // 2 + 1)
        spectrum = cast("Tensor", torch.fft.rfft(frames))  # pyright: ignore[reportUnknownMemberType]
        return torch.cat([spectrum.real, spectrum.imag], dim=1).to(x.dtype)


def load_encodec_state_dict(network: MultiResolutionSTFTDiscriminator, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of a `MultiScaleSTFTDiscriminator` of EnCodec's code.

    Args:
        network: The discriminator that gets the weights, built with the sizes of the published one.
        state_dict: The published weights, with keys `discriminators.0.convs.0.conv.weight`, ... Windows are left out.

    Raises:
        BadArgumentsError: If the weights do not fit the network.
    """
    owners: dict[str, str] = {}
    for index, _ in enumerate(network.discriminators):
        name = f"discriminators.{index}"
        owners |= {f"{name}.convs.{layer}.conv": f"{name}.{layer}" for layer in range(len(_DILATIONS) + 2)}
        owners[f"{name}.conv_post.conv"] = f"{name}.{len(_DILATIONS) + 2}"
    load_published(network, state_dict, owners, "EnCodec's", constants="window")
