"""Discriminators against the published implementations of the same networks.

How the expected numbers were computed: the published class was built with the sizes of the case, its tensors were
filled by `filled` from their published names, and it was run in float64 on the CPU with torch 2.14.1, in train mode
where the case says so and in eval mode otherwise. The input was `scale * values("x", shape)`. Of each head, the first,
second and last number are listed and the mean of all squares; of the gradient of the sum of all squared logits with
respect to the input, the same. Scales are such that numbers differ between positions.

| network | repository | commit | class |
|---|---|---|---|
| unet, vgg | XPixelGroup/BasicSR | 8d56e3a045f9fb3e1d8872f92ee4a4f07f886b0a | \
UNetDiscriminatorSN, VGGStyleDiscriminator |
| blur_patch | bytedance/1d-tokenizer | 942a96fbdd873780179d1b78d5462911528bf8c8 | NLayerDiscriminator |
| pixel | junyanz/pytorch-CycleGAN-and-pix2pix | 000f2981cd403a5b192f564234ce217e5b7dada4 | PixelDiscriminator |
| multi_period, multi_scale_waveform | jik876/hifi-gan | 4769534d45265d52a904b850da5a622601885777 | \
MultiPeriodDiscriminator, MultiScaleDiscriminator, all widths divided by 16 and 8 |
| multi_resolution_stft | facebookresearch/encodec | 0e2d0aed29362c8e8f52494baf3e6f99056b214f | \
MultiScaleSTFTDiscriminator |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from gankit import DISCRIMINATORS, Answer
from gankit.architectures import (
    load_encodec_state_dict,
    load_esrgan_state_dict,
    load_hifi_gan_state_dict,
    load_real_esrgan_state_dict,
    load_titok_state_dict,
)
from gankit.errors import BadArgumentsError
from tests.architectures.filled import Shape, convolution, filled, normalisation, values


def unet(channels: int, width: int) -> dict[str, Shape]:
    widths = [width, 2 * width, 4 * width, 8 * width]
    shapes = convolution("conv0", width, channels, 3, 3)
    for index, (before, after) in enumerate(pairwise(widths), 1):
        shapes |= convolution(f"conv{index}", after, before, 4, 4, norm="spectral", bias=False)
    for index, (before, after) in enumerate([*pairwise(reversed(widths)), (width, width), (width, width)], 4):
        shapes |= convolution(f"conv{index}", after, before, 3, 3, norm="spectral", bias=False)
    return shapes | convolution("conv9", 1, width, 3, 3)


def vgg(channels: int, width: int, stages: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    before = channels
    for stage in range(stages):
        after = width * min(2**stage, 8)
        shapes |= convolution(f"conv{stage}_0", after, before, 3, 3, bias=stage == 0)
        if stage:
            shapes |= normalisation(f"bn{stage}_0", after, running=True)
        shapes |= convolution(f"conv{stage}_1", after, after, 4, 4, bias=False)
        shapes |= normalisation(f"bn{stage}_1", after, running=True)
        before = after
    return shapes | convolution("linear1", 100, before * 16) | convolution("linear2", 1, 100)


def titok(channels: int, width: int, stages: int) -> dict[str, Shape]:
    shapes = convolution("block_in.0", width, channels, 5, 5)
    widths = [width, *(width * 2**stage for stage in range(stages))]
    for stage, (before, after) in enumerate(pairwise(widths)):
        shapes |= convolution(f"blocks.{stage}.0", after, before, 3, 3)
        shapes[f"blocks.{stage}.1.kernel"] = (1, 1, 4, 4)
        shapes |= normalisation(f"blocks.{stage}.2", after, running=False)
    last = widths[-1]
    return shapes | convolution("to_logits.0", last, last, 1, 1) | convolution("to_logits.2", 1, last, 5, 5)


def pixel(channels: int, width: int, batch: bool) -> dict[str, Shape]:
    shapes = convolution("net.0", width, channels, 1, 1)
    shapes |= convolution("net.2", 2 * width, width, 1, 1, bias=not batch)
    if batch:
        shapes |= normalisation("net.3", 2 * width, running=True)
    return shapes | convolution("net.5", 1, 2 * width, 1, 1, bias=not batch)


def multi_period(width: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    widths = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
    for period in range(5):
        name = f"discriminators.{period}"
        for index, (before, after) in enumerate(pairwise(widths)):
            shapes |= convolution(f"{name}.convs.{index}", after, before, 5, 1, norm="weight")
        shapes |= convolution(f"{name}.conv_post", 1, widths[-1], 3, 1, norm="weight")
    return shapes


def multi_scale(width: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    widths = [1, *(width * factor for factor in (1, 1, 2, 4, 8, 8, 8))]
    kernels, groups = (15, 41, 41, 41, 41, 41, 5), (1, 4, 16, 16, 16, 16, 1)
    for scale in range(3):
        name, norm = f"discriminators.{scale}", "weight" if scale else "spectral"
        for index, (before, after) in enumerate(pairwise(widths)):
            inputs = before // groups[index]
            shapes |= convolution(f"{name}.convs.{index}", after, inputs, kernels[index], norm=norm)
        shapes |= convolution(f"{name}.conv_post", 1, widths[-1], 3, norm=norm)
    return shapes


def encodec(channels: int, width: int, windows: tuple[int, ...]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for index, window in enumerate(windows):
        name = f"discriminators.{index}"
        shapes[f"{name}.spec_transform.window"] = (window,)
        shapes |= convolution(f"{name}.convs.0.conv", width, 2 * channels, 3, 9)
        for layer in (1, 2, 3):
            shapes |= convolution(f"{name}.convs.{layer}.conv", width, width, 3, 9, norm="weight")
        shapes |= convolution(f"{name}.convs.4.conv", width, width, 3, 3, norm="weight")
        shapes |= convolution(f"{name}.conv_post.conv", 1, width, 3, 3, norm="weight")
    return shapes


def load_pixel(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """The layers of pix2pix's network are in one sequence; gankit's are in three."""
    own = {"net.0": "0.0", "net.2": "1.0", "net.3": "1.1", "net.5": "2"}
    parts = ((key.rpartition("."), one) for key, one in state.items())
    network.network.load_state_dict({f"{own[owner]}.{name}": one for (owner, _, name), one in parts})


@dataclass
class Case:
    name: str
    options: dict[str, Any]
    shapes: dict[str, Shape]
    load: Any
    input_shape: Shape
    scale: float
    heads: list[tuple[Shape, list[float], float]]
    gradient: tuple[list[float], float]
    train: bool = False
    alike: set[str] = field(default_factory=set)


STFT = {"n_ffts": (64, 128, 32), "hop_lengths": (16, 32, 8), "hidden_dim": 4}
CASES = {
    "unet": Case(
        "unet", {"hidden_dim": 4}, unet(3, 4), load_real_esrgan_state_dict, (2, 3, 24, 40), 100,
        [((2, 1, 24, 40), [0.3059046, 2.463649, 0.2091625], 5.543956)],
        ([0.208356, 0.5573556, 0.1704191], 1.848255),
    ),
    "unet without skips": Case(
        "unet", {"hidden_dim": 2, "skip_connections": False}, unet(2, 2), load_real_esrgan_state_dict, (1, 2, 8, 16),
        10_000,
        [((1, 1, 8, 16), [0.0944326, 0.02041282, 0.08632134], 0.007107058)],
        ([7.621704e-06, 6.424176e-06, 1.834031e-06], 9.167897e-11),
    ),
    "vgg, 128 pixels": Case(
        "vgg", {"hidden_dim": 2}, vgg(3, 2, 5), load_esrgan_state_dict, (3, 3, 128, 128), 40,
        [((3,), [1.659918, 1.254748, 1.770919], 2.488624)],
        ([7.362028e-05, -6.123866e-05, -7.556253e-05], 4.893883e-07),
        train=True,
    ),
    "vgg, 256 pixels": Case(
        "vgg", {"hidden_dim": 1, "depth": 6}, vgg(1, 1, 6), load_esrgan_state_dict, (2, 1, 256, 256), 40,
        [((2,), [1.537606, 1.478431, 1.478431], 2.274996)],
        ([3.6693e-05, 4.178641e-06, 0.0001812475], 6.392295e-06),
        train=True,
    ),
    "blur_patch": Case(
        "blur_patch", {"hidden_dim": 32, "depth": 2}, titok(3, 32, 2), load_titok_state_dict, (2, 3, 27, 45), 2,
        [((2, 1, 16, 16), [0.420416, 0.3403537, 0.5225532], 0.2899084)],
        ([-0.09638226, -0.08558643, 0.007427341], 0.02084999),
    ),
    "blur_patch of one stage": Case(
        "blur_patch", {"hidden_dim": 32, "depth": 1}, titok(1, 32, 1), load_titok_state_dict, (2, 1, 37, 21), 2,
        [((2, 1, 16, 16), [0.3945191, 0.1983836, 0.09670292], 0.4015946)],
        ([-0.1008864, 0.1551013, -0.08715018], 0.2096256),
    ),
    "pixel": Case(
        "pixel", {"hidden_dim": 4}, pixel(3, 4, batch=True), load_pixel, (2, 3, 5, 7), 2,
        [((2, 1, 5, 7), [0.2296192, 0.005493859, 0.1157189], 0.03653941)],
        ([0.1641045, 0.01951448, -0.01753787], 0.006184095),
        train=True,
    ),
    "pixel with InstanceNorm": Case(
        "pixel", {"hidden_dim": 4, "normalization": "instance"}, pixel(3, 4, batch=False), load_pixel, (2, 3, 5, 7), 2,
        [((2, 1, 5, 7), [0.4048169, 0.1911169, 0.3281275], 0.04834503)],
        ([0.01718002, 0.0349646, 0.0286903], 0.004403289),
    ),
    "multi_period": Case(
        "multi_period", {"hidden_dim": 2}, multi_period(2), load_hifi_gan_state_dict, (2, 1, 137), 100,
        [
            ((2, 2), [0.5402263, 0.4234942, 0.2327951], 0.2080115),
            ((2, 3), [0.2567712, 0.4281587, 0.2695093], 0.1041546),
            ((2, 5), [0.6761954, 0.2768069, 0.1549153], 0.1167061),
            ((2, 7), [0.08123873, 0.2115749, 0.2864962], 0.06338863),
            ((2, 11), [0.5666153, 0.5640776, 0.4660569], 0.2661874),
        ],
        ([0.001899388, 0.003006098, -0.0005312084], 1.543187e-05),
    ),
    "multi_scale_waveform": Case(
        "multi_scale_waveform", {"hidden_dim": 16}, multi_scale(16), load_hifi_gan_state_dict, (2, 1, 203), 1000,
        [
            ((2, 4), [0.4448014, 0.2282406, -0.06761358], 0.07586255),
            ((2, 2), [0.04836408, 0.6657878, -0.06534893], 0.1133518),
            ((2, 1), [0.01630239, 0.02118924, 0.02118924], 0.0003573758),
        ],
        ([-5.981446e-05, -5.977538e-05, -1.241445e-05], 3.153137e-08),
    ),
    "multi_resolution_stft": Case(
        "multi_resolution_stft", STFT, encodec(1, 4, (64, 128, 32)), load_encodec_state_dict, (2, 1, 301), 100,
        [
            ((2, 1, 15, 5), [0.7362043, 0.1598082, 0.404208], 0.2879305),
            ((2, 1, 6, 9), [-0.500511, -0.0771976, 1.307268], 0.525894),
            ((2, 1, 34, 3), [0.8710271, 0.523124, 0.3845694], 0.8525416),
        ],
        ([0.0, 0.0002098048, 0.0], 0.01467704),
    ),
    "multi_resolution_stft in stereo": Case(
        "multi_resolution_stft",
        {"n_ffts": (48,), "hop_lengths": (10,), "win_lengths": (40,), "hidden_dim": 3},
        encodec(2, 3, (40,)), load_encodec_state_dict, (1, 2, 201), 100,
        [((1, 1, 16, 4), [0.3940424, 0.5025172, 0.2713897], 0.1468925)],
        ([0.0, 0.0, 0.0], 7.262298e-06),
    ),
}  # fmt: skip
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def built(case: Case) -> nn.Module:
    return DISCRIMINATORS.build(case.name, sample_shape=case.input_shape[1:], dtype=torch.float64, **case.options)


def heads_of(returned) -> tuple[torch.Tensor, ...]:
    return returned.heads if isinstance(returned, Answer) else (returned,)


@EVERY
def test_it_is_the_published_network(case):
    D = built(case)
    case.load(D, filled(case.shapes))
    D.train(case.train)
    x = (case.scale * values("x", case.input_shape)).requires_grad_()
    heads = heads_of(D(x))
    (slope,) = torch.autograd.grad(sum(head.square().sum() for head in heads), x)
    assert [tuple(head.shape) for head in heads] == [shape for shape, _, _ in case.heads]
    expected = [(numbers, square) for _, numbers, square in case.heads] + [case.gradient]
    for found, (numbers, square) in zip([*heads, slope], expected, strict=True):
        assert found.flatten()[[0, 1, -1]].tolist() == pytest.approx(numbers, rel=1e-5, abs=1e-11)
        assert found.square().mean().item() == pytest.approx(square, rel=1e-5)


LOADED = [name for name, case in CASES.items() if case.load is not load_pixel]


@pytest.mark.parametrize("name", LOADED)
def test_weights_of_another_network_are_refused_and_nothing_changes(name):
    case = CASES[name]
    D = built(case)
    before = {key: tensor.clone() for key, tensor in D.state_dict().items()}
    state = filled(case.shapes)
    key = next(iter(key for key in state if key.endswith("weight") or key.endswith("weight_v")))
    without = {one: tensor for one, tensor in state.items() if one != key}
    wrong = [
        (without, r"weights for a \w+ must have its layers, got 1 missing"),
        (state | {"more": torch.ones(1)}, r"and 1 superfluous \(more\); build the network"),
        (state | {key: torch.ones(1, 1, 1, 1, 1)}, r"must have the shape \(.*\), got \(1, 1, 1, 1, 1\)$"),
        ([*state], "^state_dict must be a mapping of names to weights, got a list$"),
    ]
    for given, sentence in wrong:
        with pytest.raises(BadArgumentsError, match=sentence):
            case.load(D, given)
    assert all(torch.equal(tensor, before[key]) for key, tensor in D.state_dict().items())


# the counts of the published networks, with pix2pix's 1x1 network by its formula
@pytest.mark.parametrize(
    ("name", "shape", "options", "parameters"),
    [
        ("unet", (3, 128, 128), {}, 4_376_897),
        ("vgg", (3, 128, 128), {}, 14_499_401),
        ("blur_patch", (3, 256, 256), {}, 1_909_889),
        ("pixel", (3, 256, 256), {}, 64 * 3 + 64 + 64 * 128 + 2 * 128 + 128),
        ("pixel", (6, 64, 64), {"normalization": "instance"}, 64 * 6 + 64 + 64 * 128 + 128 + 128 + 1),
        ("multi_period", (1, 8192), {}, 41_105_770),
        ("multi_scale_waveform", (1, 8192), {}, 29_618_821),
        ("multi_resolution_stft", (1, 8192), {}, 283_398),
        ("multi_resolution_stft", (1, 8192), {"normalize_first": True}, 283_494),
    ],
)
def test_its_parameters_are_as_many_as_published(name, shape, options, parameters):
    D = DISCRIMINATORS.build(name, sample_shape=shape, device="meta", **options)
    assert sum(parameter.numel() for parameter in D.parameters()) == parameters
