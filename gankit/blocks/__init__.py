"""Blocks: the groups of layers that networks are built from, by name in `BLOCKS`.

A block maps one width to another and keeps the batch dimension. Linear blocks map `(N, in_features)` to
`(N, out_features)`; convolutional blocks halve or double the picture.
"""

from gankit.blocks.convolution import conv_bn_leaky_relu, conv_leaky_relu, conv_transpose_bn_relu
from gankit.blocks.linear import Maxout, linear_bn_relu, linear_leaky_relu, linear_relu
from gankit.blocks.registry import BLOCKS

__all__ = [
    "BLOCKS",
    "Maxout",
    "conv_bn_leaky_relu",
    "conv_leaky_relu",
    "conv_transpose_bn_relu",
    "linear_bn_relu",
    "linear_leaky_relu",
    "linear_relu",
]
