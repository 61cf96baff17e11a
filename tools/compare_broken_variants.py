"""Compares the vanilla GAN on digits with variants of it that are broken on purpose, which must score worse.

    OMP_NUM_THREADS=1 python -m tools.compare_broken_variants --seeds 5 --out runs/broken

One variant has a generator of half the width, and in the other one D is not updated in the second half of the steps.
They are trained for 1,000 steps with batches of 32. `--loss` is the loss of all three; further flags are those of
`gankit compare`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from torch import optim
from typing_extensions import override

from gankit.cli import main
from gankit.optimizers import OPTIMIZERS

STEPS = 1000
VARIANTS = ["generator=mlp:hidden_dim=64", f"discriminator_optimizer=stopping_adam:updates={STEPS // 2}"]
"""The variants as `gankit compare` reads them."""


class StoppingAdam(optim.Adam):
    """Adam with the numbers of `vanilla_mnist`, which makes no more updates after the first ones.

    Args:
        params: The parameters.
        updates: The number of updates.
    """

    def __init__(self, params: Any, *, updates: int) -> None:
        super().__init__(params, lr=2e-4, betas=(0.5, 0.999), fused=True)
        self.remaining = updates

    @override
    def step(self, closure: Any = None) -> Any:
        """Make an update while any remain."""
        if self.remaining > 0:
            self.remaining -= 1
            return super().step(closure)
        return None


def arguments(words: list[str]) -> list[str]:
    """Return the arguments of `gankit` for those of this command."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--loss", default="unchanged")
    options, flags = parser.parse_known_args(words)
    entries = ["--loss", options.loss]
    for variant in VARIANTS:
        entries += ["--variant", f"{options.loss}+{variant}"]
    return ["compare", "vanilla_mnist", *entries, "--steps", str(STEPS), "--batch-size", "32", *flags]


if __name__ == "__main__":
    OPTIMIZERS.register("stopping_adam", StoppingAdam)
    sys.exit(main(arguments(sys.argv[1:])))
