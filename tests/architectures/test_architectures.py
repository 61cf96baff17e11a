"""Checks of every registered generator and discriminator."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from torch import nn

from gankit import BLOCKS, DISCRIMINATORS, GENERATORS, Spec
from gankit.architectures import DCGANGenerator, MLPGenerator
from gankit.errors import BadArgumentsError, BadValueError, ShapeError

LATENT_DIM = 6
SHAPE = (1, 28, 28)
CLASSES = 3
ODD_BATCH = 3

# these wrap another network: test_packed.py, test_multi_scale.py, test_frozen_features.py
WHOLE = [name for name in DISCRIMINATORS if name not in ("packed", "multi_scale", "frozen_features")]
WAVEFORMS = ["multi_period", "multi_resolution_stft", "multi_scale_waveform"]
OF_PICTURES = [name for name in WHOLE if name not in WAVEFORMS]
ROLES = [("generator", name) for name in GENERATORS.names()] + [("discriminator", name) for name in WHOLE]
EVERY = pytest.mark.parametrize(("role", "name"), ROLES)
EVERY_GENERATOR = pytest.mark.parametrize("name", GENERATORS.names())
EVERY_DISCRIMINATOR_OF_PICTURES = pytest.mark.parametrize("name", OF_PICTURES)
OURS = pytest.mark.parametrize("name", ["mlp", "dcgan"])
CONDITIONAL = pytest.mark.parametrize("num_classes", [None, CLASSES])


SMALL = {
    "mlp": {"hidden_dim": 16},
    "dcgan": {"hidden_dim": 8},
    "patch": {"hidden_dim": 8},
    "pixel": {"hidden_dim": 4, "features": False},
    "unet": {"hidden_dim": 4, "depth": 2, "features": False},
    "vgg": {"hidden_dim": 4, "depth": 3, "features": False},
    "blur_patch": {"hidden_dim": 8, "groups": 2, "depth": 2, "features": False},
    "multi_period": {"hidden_dim": 2, "periods": (3,), "features": False},
    "multi_scale_waveform": {"hidden_dim": 16, "scales": 1, "features": False},
    "multi_resolution_stft": {"hidden_dim": 4, "n_ffts": (16,), "features": False},
}  # others in their own size
# what comes after (N,) in the logits
POSITIONS = {
    "patch": (1, 1, 1),
    "pixel": (1, 28, 28),
    "unet": (1, 28, 28),
    "blur_patch": (1, 16, 16),
    "multi_period": (3,),
    "multi_scale_waveform": (2,),
    "multi_resolution_stft": (1, 20, 2),
}
ANY_SIZE = {*POSITIONS}


def shape_of(name):
    return (1, 95) if name in WAVEFORMS else SHAPE


def build(role, name, **arguments):
    arguments = {"sample_shape": shape_of(name)} | SMALL.get(name, {}) | arguments
    if role == "generator":
        return GENERATORS.build(name, **{"latent_dim": LATENT_DIM} | arguments)
    return DISCRIMINATORS.build(name, **arguments)


def inputs_for(role, name, num_classes=None, count=ODD_BATCH, dtype=torch.float32):
    """The inputs of the network: latents or samples, and labels if it is conditional."""
    shape = (LATENT_DIM,) if role == "generator" else shape_of(name)
    first = (torch.randn if role == "generator" else torch.rand)(count, *shape, dtype=dtype)
    return (first,) if num_classes is None else (first, torch.arange(count) % num_classes)


# --- every one -------------------------------------------------------------------------------------------


@EVERY
@CONDITIONAL
def test_latents_become_samples_and_samples_become_logits(role, name, num_classes):
    network = build(role, name, num_classes=num_classes)
    out = network(*inputs_for(role, name, num_classes))
    assert out.shape == ((ODD_BATCH, *(SHAPE if role == "generator" else POSITIONS.get(name, ()))))
    assert out.isfinite().all()


@EVERY
def test_it_is_described(role, name):
    assert {"generator": GENERATORS, "discriminator": DISCRIMINATORS}[role].summary(name)


@EVERY
@CONDITIONAL
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_runs_and_learns_in_the_type_asked_for(role, name, num_classes, dtype):
    network = build(role, name, num_classes=num_classes, dtype=dtype)
    out = network(*inputs_for(role, name, num_classes, dtype=dtype))
    out.sum().backward()
    assert out.dtype == dtype
    for parameter in network.parameters():
        assert parameter.dtype == dtype
        assert parameter.grad.isfinite().all()


@EVERY
def test_its_weights_are_made_on_the_device_asked_for(role, name):
    network = build(role, name, device="meta", num_classes=CLASSES)
    assert {tensor.device.type for tensor in [*network.parameters(), *network.buffers()]} == {"meta"}


@EVERY
@CONDITIONAL
def test_gradients_reach_every_parameter_and_the_input(role, name, num_classes):
    network = build(role, name, num_classes=num_classes)
    x, *labels = inputs_for(role, name, num_classes, count=5)
    x.requires_grad_()
    out = network(x, *labels)
    (out * torch.randn_like(out)).sum().backward()
    for key, tensor in [("input", x), *network.named_parameters()]:
        assert tensor.grad is not None, key
        assert tensor.grad.any(), key


@EVERY
def test_its_state_makes_another_one_equal(role, name):
    one, other = build(role, name), build(role, name)
    inputs = inputs_for(role, name)
    one(*inputs)  # moves running statistics, where there are any
    one.eval()
    other.eval()
    assert not torch.equal(one(*inputs), other(*inputs))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(*inputs), other(*inputs))


@EVERY
def test_it_leaves_its_input_and_torchs_generator_as_they_were(role, name):
    network = build(role, name)
    inputs = inputs_for(role, name)
    before, random = inputs[0].clone(), torch.get_rng_state()
    network(*inputs)
    assert torch.equal(inputs[0], before)
    assert torch.equal(torch.get_rng_state(), random)


@EVERY
@CONDITIONAL
def test_it_exports_with_any_batch_size(role, name, num_classes):
    network = build(role, name, num_classes=num_classes).eval()
    inputs = inputs_for(role, name, num_classes)
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(network, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    others = inputs_for(role, name, num_classes, count=5)
    torch.testing.assert_close(exported.module()(*others), network(*others))


@pytest.mark.parametrize(("role", "name"), [one for one in ROLES if one[1] not in ("unet", *WAVEFORMS)])
def test_the_inner_network_is_a_sequence_of_layers_with_unprefixed_keys(role, name):
    network = build(role, name)
    assert isinstance(network.network, nn.Sequential)
    assert {key.partition(".")[0] for key in network.state_dict()} == {"network"}
    assert {key.removeprefix("network.") for key in network.state_dict()} == network.network.state_dict().keys()


@EVERY
def test_an_empty_batch_gives_an_empty_batch(role, name):
    network = build(role, name).eval()
    assert network(*inputs_for(role, name, count=0)).shape == (
        0,
        *(SHAPE if role == "generator" else POSITIONS.get(name, ())),
    )


@EVERY
def test_misspelt_and_ill_typed_arguments_are_refused(role, name):
    with pytest.raises(BadArgumentsError, match=f"^{role} '{name}'.* argument 'hiden_dim'. Did you mean 'hidden_dim'"):
        build(role, name, hiden_dim=128)
    with pytest.raises(BadArgumentsError, match=f"^{role} '{name}'.* must be Sequence.int., got '28'"):
        build(role, name, sample_shape="28")


@pytest.mark.parametrize("generator", GENERATORS.names())
@pytest.mark.parametrize("discriminator", OF_PICTURES)
@CONDITIONAL
def test_any_generator_meets_any_discriminator(generator, discriminator, num_classes):
    G = build("generator", generator, num_classes=num_classes)
    D = build("discriminator", discriminator, num_classes=num_classes)
    z, *labels = inputs_for("generator", generator, num_classes)
    logits = D(G(z, *labels), *labels)
    logits.sum().backward()
    assert logits.shape == (ODD_BATCH, *POSITIONS.get(discriminator, ()))
    assert all(parameter.grad is not None for parameter in [*G.parameters(), *D.parameters()])


@EVERY_GENERATOR
def test_the_generators_samples_are_the_inner_networks_in_shape(name):
    network = build("generator", name).eval()
    (z,) = inputs_for("generator", "mlp")
    assert torch.equal(network(z), network.network(z).reshape(ODD_BATCH, *SHAPE))


@OURS
@CONDITIONAL
def test_features_are_what_the_last_layer_turns_into_logits(name, num_classes):
    network = build("discriminator", name, num_classes=num_classes).eval()
    inputs = inputs_for("discriminator", name, num_classes)
    features = network.features(*inputs)
    assert len(features) == ODD_BATCH
    assert features.numel() > ODD_BATCH
    assert torch.equal(network.network[-1](features).flatten(), network(*inputs))


# --- wrong inputs ----------------------------------------------------------------------------------------


@EVERY_GENERATOR
@pytest.mark.parametrize("shape", [(3, LATENT_DIM + 1), (LATENT_DIM,), (3, LATENT_DIM, 1), (3, 1, LATENT_DIM)])
def test_latents_of_another_shape_are_refused(name, shape):
    with pytest.raises(ShapeError) as refusal:
        build("generator", name)(torch.randn(shape))
    assert str(refusal.value).endswith(f"needs latents of shape (N, {LATENT_DIM}), got {shape}")


@EVERY_DISCRIMINATOR_OF_PICTURES
@pytest.mark.parametrize("shape", [(3, 784), (1, 28, 28), (3, 1, 28, 27), (3, 3, 28, 28), (3, 2, 1, 28, 28)])
def test_samples_of_another_shape_are_refused(name, shape):
    if name in ANY_SIZE and shape[1:] == (1, 28, 27):
        return  # any size will do
    size = "H, W" if name in ANY_SIZE or (name == "vgg" and shape[1:] != (1, 28, 27)) else "28, 28"
    with pytest.raises(ShapeError) as refusal:
        build("discriminator", name)(torch.rand(shape))
    assert str(refusal.value).endswith(f"needs samples of shape (N, 1, {size}), got {shape}")


@EVERY
def test_impossible_sizes_are_refused(role, name):
    for shape in [(), (0, 28, 28), (1, -28, 28)]:
        with pytest.raises(BadValueError, match="sample_shape must be positive sizes") as refusal:
            build(role, name, sample_shape=shape)
        assert str(refusal.value).endswith(f"got {shape}")
    with pytest.raises(BadValueError, match="num_classes must be above 0, got 0"):
        build(role, name, num_classes=0)
    if role == "generator":
        with pytest.raises(BadValueError, match="latent_dim must be above 0, got 0"):
            build(role, name, latent_dim=0)


# --- conditions ------------------------------------------------------------------------------------------


@EVERY
def test_another_label_gives_another_output(role, name):
    network = build(role, name, num_classes=CLASSES).eval()
    x, _ = inputs_for(role, name, CLASSES, count=1)
    outputs = [network(x, torch.tensor([label])) for label in range(CLASSES)]
    for one, other in itertools.combinations(outputs, 2):
        assert not torch.equal(one, other)


@EVERY
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_labels_of_any_integer_type_mean_the_same(role, name, dtype):
    network = build(role, name, num_classes=CLASSES).eval()
    x, labels = inputs_for(role, name, CLASSES)
    assert torch.equal(network(x, labels.to(dtype)), network(x, labels))


@EVERY
def test_each_sample_gets_its_own_label(role, name):
    network = build(role, name, num_classes=CLASSES, dtype=torch.float64).eval()
    x, labels = inputs_for(role, name, CLASSES, dtype=torch.float64)
    for n in range(ODD_BATCH):
        torch.testing.assert_close(network(x, labels)[n : n + 1], network(x[n : n + 1], labels[n : n + 1]))


@EVERY
def test_a_missing_condition_is_refused(role, name):
    network = build(role, name, num_classes=CLASSES)
    with pytest.raises(BadArgumentsError, match=f"built with num_classes={CLASSES}, so it needs a condition"):
        network(*inputs_for(role, name))


@EVERY
def test_an_unwanted_condition_is_refused(role, name):
    with pytest.raises(BadArgumentsError, match=r"built without num_classes, so it takes no condition, got .* \(3,\)"):
        build(role, name)(*inputs_for(role, name, CLASSES))


@EVERY
@pytest.mark.parametrize(
    "condition",
    [
        torch.zeros(ODD_BATCH, 1, dtype=torch.long),
        torch.zeros(ODD_BATCH - 1, dtype=torch.long),
        torch.zeros(1, dtype=torch.long),
        torch.tensor(0),
        torch.zeros(ODD_BATCH),
        torch.eye(CLASSES),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_an_ill_shaped_condition_is_refused(role, name, condition):
    network = build(role, name, num_classes=CLASSES)
    with pytest.raises(ShapeError) as refusal:
        network(*inputs_for(role, name), condition)
    message = str(refusal.value)
    assert f"integer labels of shape ({ODD_BATCH},)" in message
    assert message.endswith(f"got {condition.dtype} of shape {tuple(condition.shape)}")


# --- arguments of ours -----------------------------------------------------------------------------------


@OURS
def test_output_activations_squash_the_same_numbers(name):
    plain = build("generator", name, output_activation="identity").eval()
    (z,) = inputs_for("generator", "mlp")
    raw = plain(z)
    for activation, function in [("sigmoid", torch.sigmoid), ("tanh", torch.tanh)]:
        squashed = build("generator", name, output_activation=activation).eval()
        squashed.load_state_dict(plain.state_dict())
        assert torch.equal(squashed(z), function(raw))


@pytest.mark.parametrize("network", [MLPGenerator, DCGANGenerator])
def test_another_output_activation_is_refused(network):
    with pytest.raises(BadValueError, match="must be one of sigmoid, tanh, identity, got 'softmax'"):
        network(LATENT_DIM, SHAPE, output_activation="softmax")


@OURS
def test_by_name_another_output_activation_is_refused_with_the_choices(name):
    with pytest.raises(BadArgumentsError, match="must be one of 'sigmoid', 'tanh', 'identity', got 'softmax'$"):
        build("generator", name, output_activation="softmax")


@OURS
@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_an_impossible_width_is_refused(role, name):
    with pytest.raises(BadValueError, match="^hidden_dim must be above 0, got 0$"):
        build(role, name, hidden_dim=0)


@OURS
@pytest.mark.parametrize("role", ["generator", "discriminator"])
@pytest.mark.parametrize("way", ["name", "spec", "function", "partial"])
def test_a_block_is_taken_by_name_spec_or_function(role, name, way):
    kind = {
        ("generator", "dcgan"): "conv_transpose_bn_relu",
        ("discriminator", "dcgan"): "conv_bn_leaky_relu",
    }.get((role, name), "linear_leaky_relu")
    made = []

    def function(in_features, out_features, **options):
        made.append(BLOCKS.build(kind, in_features, out_features, **options))
        return made[-1]

    block = {"name": kind, "spec": Spec(kind), "function": function, "partial": functools.partial(function)}[way]
    torch.manual_seed(0)
    network = build(role, name, block=block, hidden_dim=4)
    torch.manual_seed(0)
    by_name = build(role, name, block=kind, hidden_dim=4)
    inputs = inputs_for(role, name)
    assert torch.equal(network(*inputs), by_name(*inputs))
    assert bool(made) == (way in ("function", "partial"))
    assert all(any(layer is one for layer in network.network) for one in made)


@OURS
@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_a_blocks_own_arguments_are_checked(role, name):
    with pytest.raises(BadArgumentsError, match="^block 'maxout'.* got an unexpected argument 'peices'"):
        build(role, name, block=Spec("maxout", peices=5))


def test_a_function_of_two_widths_alone_is_enough_for_a_block():
    network = build("generator", "mlp", block=lambda a, b: nn.Linear(a, b))
    assert network(*inputs_for("generator", "mlp")).shape == (ODD_BATCH, *SHAPE)


def test_blocks_that_spoil_the_picture_are_never_taken_for_a_smaller_batch():
    def keeps_its_size(in_channels, out_channels):
        return nn.Conv2d(in_channels, out_channels, 1)

    # the generator's answer has the numbers of a quarter of the samples, the discriminator's too many logits
    G = build("generator", "dcgan", block=keeps_its_size)
    D = build("discriminator", "dcgan", block=keeps_its_size)
    for network, role in [(G, "generator"), (D, "discriminator")]:
        with pytest.raises(RuntimeError, match="invalid for input of size"):
            network(*inputs_for(role, "dcgan", count=4))
