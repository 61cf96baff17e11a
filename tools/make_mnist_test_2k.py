"""Make gankit/data/mnist_test_2k from the test digits of MNIST.

    python -m tools.make_mnist_test_2k DIR

`DIR` is the folder that contains MNIST/raw. The pixels are MNIST's, unchanged. The digits are random rows by a fixed
seed, because MNIST's files are ordered by writer. They are written in MNIST's own IDX format.
"""

import sys
from pathlib import Path

import torch

from gankit.data.digits import mnist
from tools.make_mnist_5k import write_idx

TARGET = Path(__file__).parents[1] / "gankit" / "data" / "mnist_test_2k"
COUNT, SEED = 2_000, 0


def main(root: str) -> None:
    """Read MNIST, write the two files."""
    data = mnist(root, train=False, download=False)
    assert data.labels is not None
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))[:COUNT]
    TARGET.mkdir(exist_ok=True)
    write_idx(TARGET / "images-idx3-ubyte.gz", [COUNT, 28, 28], data.samples[rows].numpy().tobytes())
    write_idx(TARGET / "labels-idx1-ubyte.gz", [COUNT], data.labels[rows].byte().numpy().tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
