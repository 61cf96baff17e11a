"""Blocks: what a network is made of, by name in `BLOCKS`.

A block goes from one width to another and keeps the leading dimension. Linear blocks take `(N, in_features)`;
the convolutional pair doubles or halves the picture.
"""

from gankit.blocks.convolution import conv_bn_leaky_relu, conv_transpose_bn_relu
from gankit.blocks.linear import Maxout, linear_bn_relu, linear_leaky_relu, linear_relu
from gankit.blocks.registry import BLOCKS

__all__ = [
    "BLOCKS",
    "Maxout",
    "conv_bn_leaky_relu",
    "conv_transpose_bn_relu",
    "linear_bn_relu",
    "linear_leaky_relu",
    "linear_relu",
]
