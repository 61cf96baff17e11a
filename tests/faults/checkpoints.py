"""A small preset, and the checkpoints that the tests of faults damage."""

from __future__ import annotations

from pathlib import Path

from gankit.presets import ring
from gankit.spec import Spec
from gankit.training import Checkpointer

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8], block="linear_relu"), discriminator=Spec("mlp", widths=[8]), batch_size=16
)


def two_checkpoints() -> tuple[Path, Path]:
    """Train for four steps; return the folders of the checkpoints after steps 2 and 4."""
    with Checkpointer("checkpoints", every_steps=2) as checkpointer:
        POINTS(device="cpu", callbacks=[checkpointer]).fit(POINTS.batches(device="cpu"), steps=4)
    return Path("checkpoints/step_0000002"), Path("checkpoints/step_0000004")
