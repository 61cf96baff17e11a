"""Checks of every registered block, and the layers of gankit's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import BLOCKS
from gankit.blocks import (
    Maxout,
    conv_bn_leaky_relu,
    conv_leaky_relu,
    conv_transpose_bn_relu,
    linear_bn_relu,
    linear_leaky_relu,
    linear_relu,
)
from gankit.errors import BadArgumentsError, BadValueError

EVERY = pytest.mark.parametrize("name", BLOCKS.names())
ODD_BATCH = 3


def is_convolutional(block):
    return any(isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) for layer in block.modules())


def inputs_for(block, features=6, count=ODD_BATCH, dtype=torch.float32):
    return torch.randn(count, features, *((8, 8) if is_convolutional(block) else ()), dtype=dtype)


@EVERY
def test_it_goes_from_one_width_to_the_other_and_keeps_the_batch(name):
    block = BLOCKS.build(name, 6, 4)
    x = inputs_for(block)
    out = block(x)
    assert isinstance(block, nn.Module)
    assert out.shape[:2] == (ODD_BATCH, 4)
    assert out.ndim == x.ndim
    assert out.isfinite().all()
    assert BLOCKS.summary(name)


@EVERY
def test_it_leaves_its_input_as_it_was(name):
    block = BLOCKS.build(name, 6, 4)
    x = inputs_for(block)
    before = x.clone()
    block(x)
    assert torch.equal(x, before)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_runs_and_learns_in_the_type_asked_for(name, dtype):
    block = BLOCKS.build(name, 6, 4, dtype=dtype)
    out = block(inputs_for(block, dtype=dtype))
    (out * torch.randn_like(out)).sum().backward()
    assert out.dtype == dtype
    for parameter in block.parameters():
        assert parameter.dtype == dtype
        assert parameter.grad.isfinite().all()


@EVERY
def test_its_weights_are_made_on_the_device_asked_for(name):
    block = BLOCKS.build(name, 6, 4, device="meta")
    assert {tensor.device.type for tensor in [*block.parameters(), *block.buffers()]} == {"meta"}


@EVERY
def test_gradients_reach_every_parameter_and_the_input(name):
    block = BLOCKS.build(name, 6, 4)
    x = inputs_for(block, count=17).requires_grad_()
    out = block(x)
    (out * torch.randn_like(out)).sum().backward()
    for key, tensor in [("input", x), *block.named_parameters()]:
        assert tensor.grad is not None, key
        assert tensor.grad.any(), key


@EVERY
def test_its_gradient_is_the_one_of_finite_differences(name):
    block = BLOCKS.build(name, 2, 2, dtype=torch.float64)
    x = inputs_for(block, features=2, dtype=torch.float64)[..., :4].requires_grad_()
    assert torch.autograd.gradcheck(block, (x,), fast_mode=True)


@EVERY
def test_its_state_makes_another_one_equal(name):
    one, other = (BLOCKS.build(name, 6, 4) for _ in range(2))
    x = inputs_for(one)
    one(x)  # moves running statistics, where there are any
    one.eval()
    other.eval()
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


@EVERY
def test_its_answer_to_one_sample_does_not_depend_on_the_others_in_eval_mode(name):
    block = BLOCKS.build(name, 6, 4, dtype=torch.float64).eval()
    x = inputs_for(block, dtype=torch.float64)
    torch.testing.assert_close(block(x)[1:2], block(x[1:2]))


@EVERY
def test_it_exports_with_any_batch_size(name):
    block = BLOCKS.build(name, 6, 4).eval()
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(block, (inputs_for(block),), dynamic_shapes=({0: batch},))
    x = inputs_for(block, count=5)
    torch.testing.assert_close(exported.module()(x), block(x))


@EVERY
def test_misspelt_and_ill_typed_arguments_are_refused(name):
    with pytest.raises(BadArgumentsError, match=f"^block '{name}'.* got an unexpected argument 'dvice'"):
        BLOCKS.build(name, 6, 4, dvice="cpu")
    with pytest.raises(BadArgumentsError, match=f"^block '{name}'.* must be int, got '6'"):
        BLOCKS.build(name, "6", 4)
    with pytest.raises(BadArgumentsError, match=f"^block '{name}'.* missing a required argument"):
        BLOCKS.build(name, 6)


# --- the lecture's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "layers"),
    [
        (linear_bn_relu(10, 128), [nn.Linear, nn.BatchNorm1d, nn.ReLU]),
        (linear_leaky_relu(10, 128), [nn.Linear, nn.LeakyReLU]),
        (linear_relu(10, 128), [nn.Linear, nn.ReLU]),
        (conv_bn_leaky_relu(10, 128), [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]),
        (conv_leaky_relu(10, 128), [nn.Conv2d, nn.LeakyReLU]),
        (conv_transpose_bn_relu(10, 128), [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]),
    ],
)
def test_it_has_exactly_these_layers(block, layers):
    assert isinstance(block, nn.Sequential)
    assert [type(layer) for layer in block] == layers


def test_the_generators_block_has_a_bias_and_normalises_its_output_width():
    linear, norm, _ = linear_bn_relu(10, 128)
    assert (linear.in_features, linear.out_features) == (10, 128)
    assert linear.bias is not None
    assert norm.num_features == 128
    assert norm.affine
    assert norm.track_running_stats


@pytest.mark.parametrize("block", [linear_leaky_relu, conv_bn_leaky_relu, conv_leaky_relu])
def test_the_leaky_slope_is_a_fifth_and_can_be_chosen(block):
    assert block(3, 5)[-1].negative_slope == 0.2
    assert block(3, 5, negative_slope=0.1)[-1].negative_slope == 0.1


def test_a_leaky_block_computes_its_formula():
    block = linear_leaky_relu(3, 5, dtype=torch.float64)
    x = torch.randn(7, 3, dtype=torch.float64)
    y = x @ block[0].weight.T + block[0].bias
    torch.testing.assert_close(block(x), torch.where(y > 0, y, 0.2 * y))


def test_a_normalised_block_computes_its_formula():
    block = linear_bn_relu(3, 5, dtype=torch.float64)
    x = torch.randn(7, 3, dtype=torch.float64)
    y = x @ block[0].weight.T + block[0].bias
    y = (y - y.mean(0)) / (y.var(0, correction=0) + block[1].eps).sqrt()
    torch.testing.assert_close(block(x), y.clamp(min=0))


# --- maxout ----------------------------------------------------------------------------------------------


def test_maxout_takes_the_larger_of_two_lines():
    block = Maxout(2, 1, pieces=2)
    with torch.no_grad():
        block.linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        block.linear.bias.copy_(torch.tensor([0.0, 1.0]))
    # max(x, y + 1)
    assert block(torch.tensor([[3.0, 1.0], [0.0, 5.0], [2.0, 1.0]])).tolist() == [[3.0], [6.0], [2.0]]


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_maxout_agrees_with_a_loop_over_units_and_pieces(pieces):
    block = Maxout(3, 4, pieces=pieces, dtype=torch.float64)
    x = torch.randn(6, 3, dtype=torch.float64)
    out = block(x).tolist()
    weights = block.linear.weight.detach().reshape(4, pieces, 3)
    biases = block.linear.bias.detach().reshape(4, pieces)
    for n, i in [(n, i) for n in range(6) for i in range(4)]:
        largest = max(float(weights[i, j] @ x[n] + biases[i, j]) for j in range(pieces))
        assert out[n][i] == pytest.approx(largest, abs=1e-12)


def test_maxout_of_one_piece_is_linear():
    block = Maxout(3, 4, pieces=1)
    x = torch.randn(6, 3)
    torch.testing.assert_close(block(x), block.linear(x))


@pytest.mark.parametrize("pieces", [0, -1])
def test_maxout_without_pieces_is_refused(pieces):
    with pytest.raises(BadValueError, match=f"^pieces must be above 0, got {pieces}$"):
        Maxout(3, 4, pieces=pieces)


# --- convolutions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 8, 14])
def test_the_convolutional_pair_halves_and_doubles_the_picture(size):
    x = torch.randn(2, 3, size, 2 * size)
    assert conv_bn_leaky_relu(3, 5)(x).shape == (2, 5, size // 2, size)
    assert conv_leaky_relu(3, 5)(x).shape == (2, 5, size // 2, size)
    assert conv_transpose_bn_relu(3, 5)(x).shape == (2, 5, 2 * size, 4 * size)


@pytest.mark.parametrize("block", [conv_bn_leaky_relu, conv_transpose_bn_relu])
def test_convolutions_leave_the_bias_to_the_norm(block):
    convolution, norm, _ = block(3, 5)
    assert convolution.bias is None
    assert norm.num_features == 5
    assert convolution.kernel_size == (4, 4)
