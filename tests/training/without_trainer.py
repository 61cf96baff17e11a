"""Ten steps without `AdversarialTrainer`: a state, objectives, options and an executor are enough.

`python -m tests.training.without_trainer` prints the results of the steps as JSON, and whether the trainer was
imported.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import nn

from gankit.latents import Normal
from gankit.losses import NonSaturating
from gankit.regularizers import R1, Lecam
from gankit.training.execution.executor import Executor
from gankit.training.parallel.ranks import Ranks
from gankit.training.step.batches import BatchCheck
from gankit.training.step.objectives import Objectives
from gankit.training.step.options import Options
from gankit.training.step.state import TrainingState
from gankit.training.step.step import Step

STEPS = 10
SEED = 3
OPTIONS = {"discriminator_steps": 2, "averaging_decay": 0.9, "max_gradient_norm": 1.0, "on_non_finite": "skip"}


def networks_and_optimizers():
    """Return what a training needs, apart from its options and its objectives."""
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    D = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(8, 1), nn.Flatten(0))
    optimizers = {
        "generator_optimizer": torch.optim.Adam(G.parameters(), lr=1e-2),
        "discriminator_optimizer": torch.optim.Adam(D.parameters(), lr=1e-2),
    }
    return (G, D), {"latent": Normal(3), "seed": SEED, **optimizers}


def objectives():
    """Return a loss, and penalties of which one has buffers."""
    return NonSaturating(), [R1(every=3), Lecam()]


def batches():
    """Return one batch for each update of D."""
    random = torch.Generator().manual_seed(1)
    return torch.randn(STEPS * OPTIONS["discriminator_steps"], 6, 2, generator=random).unbind()


def train():
    """Return the results of each step as numbers."""
    networks, arguments = networks_and_optimizers()
    options = Options(**OPTIONS)
    state = TrainingState(*networks, objectives=Objectives(*objectives()), options=options, **arguments)
    executor, check = Executor(Step(state, options, state.objectives, Ranks())), BatchCheck(state)
    source = iter(batches())
    rows = []
    for _ in range(STEPS):
        results = executor.run([check(next(source)) for _ in range(options.discriminator_steps)])
        rows.append({name: value.item() for name, value in results.items()})
    return rows


if __name__ == "__main__":
    json.dump({"results": train(), "has_trainer": "gankit.training.trainer" in sys.modules}, sys.stdout)
