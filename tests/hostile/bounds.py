"""Bounds within which a file must be refused, and the parts that hostile files of weights are made of."""

from __future__ import annotations

import contextlib
import json
import resource
import struct
import time
from pathlib import Path

import pytest

import gankit
from gankit.errors import GankitError
from gankit.presets import ring
from gankit.runs import Run
from gankit.spec import Spec

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8], block="linear_relu"),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    averaging_decay=0.9,
)
MOST_BYTES = 512 * 2**20
MOST_SECONDS = 20


@contextlib.contextmanager
def bounded():
    """Limit the memory of this process, and check the time and that nothing was written anywhere."""
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before, started = outside(), time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.monotonic() - started < MOST_SECONDS
    assert outside() == before


def outside() -> set[Path]:
    """Return everything in and above the folder that the test runs in, where a hostile file would write."""
    return {*Path().rglob("*"), *Path("..").glob("*"), *Path("/").glob("*")}


def refused(call, error=GankitError) -> str:
    with bounded(), pytest.raises(error) as caught:
        call()
    cause = caught.value.__cause__
    assert not isinstance(cause, MemoryError)
    assert "can't allocate" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def taken_apart(file: Path) -> tuple[dict, bytes]:
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)  # only the tensors
    return header, content[8 + size :]


def put_together(header, body: bytes, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


LOADS = {"load": lambda: gankit.load("run"), "load_trainer": lambda: Run.open("run").load_trainer()}
