"""A long training holds no more of the machine at its end than after its warm-up."""

from __future__ import annotations

import gc
import os
import statistics
import time
from pathlib import Path

import pytest
import torch

from gankit.presets import ring
from gankit.spec import Spec
from gankit.training import Checkpointer, MetricsLog, load_newest

SMALLEST = ring.replace(
    latent=Spec("normal", latent_dim=2),
    generator=Spec("mlp", widths=[2], block="linear_relu"),
    discriminator=Spec("mlp", widths=[2], block="linear_relu"),
    batch_size=4,
    learning_rate_decay=False,
    averaging_decay=0.99,
)
MIB = 2**20

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads what Linux tells of a process")


def tensors(expected: int | None) -> int:
    """How many there are; the writing thread lets go of its copy a moment after it is done."""
    deadline = time.monotonic() + (0.2 if expected is None else 5)
    while True:
        count = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
        if count == expected or time.monotonic() > deadline:
            return count
        time.sleep(0.01)


class Probe:
    """What the process holds, each time the writing of a checkpoint is over."""

    def __init__(self, checkpointer: Checkpointer, every: int) -> None:
        self.every = every
        self.checkpointer = checkpointer
        self.bytes: list[int] = []
        self.handles: list[int] = []
        self.threads: list[int] = []
        self.tensors: list[int] = []

    def __call__(self, trainer) -> None:
        self.checkpointer.flush()
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        self.bytes.append(resident * os.sysconf("SC_PAGE_SIZE"))
        self.handles.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        self.threads.append(sum(1 for _ in Path("/proc/self/task").iterdir()))
        self.tensors.append(tensors(self.tensors[0] if self.tensors else None))


def watched(steps: int, every: int) -> Probe:
    """Train with everything that a long run has: checkpoints, a log, an average."""
    with Checkpointer("checkpoints", every_steps=every) as checkpointer:
        probe = Probe(checkpointer, every)
        callbacks = [MetricsLog("metrics.jsonl", every=100), checkpointer, probe]
        trainer = SMALLEST(device="cpu", callbacks=callbacks)
        trainer.fit(SMALLEST.batches(device="cpu"), steps=steps)
    assert load_newest("checkpoints").step == steps
    assert len(Path("metrics.jsonl").read_text().splitlines()) == steps // 100
    return probe


def test_a_training_holds_as_many_tensors_handles_and_threads_at_its_end_as_at_its_start():
    probe = watched(600, 150)
    assert len(set(probe.tensors)) == len(set(probe.handles)) == len(set(probe.threads)) == 1


@pytest.mark.slow
def test_a_hundred_thousand_steps_take_no_more_memory_handles_or_threads_than_the_first_ones():
    probe = watched(100_000, 1000)
    assert len(set(probe.tensors)) == len(set(probe.handles)) == len(set(probe.threads)) == 1
    early, late = (statistics.median(window) / MIB for window in (probe.bytes[10:30], probe.bytes[80:]))
    print(f"resident after 10,000 to 30,000 steps {early:.2f} MiB, after 80,000 to 100,000 {late:.2f} MiB")
    # the history, one line every 100 steps, is kept on purpose: 700 lines more
    assert late - early < 4
