"""The programs of the page on adversarial terms, which are shortened and run by tests."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from gankit import Spec

TEXT = (Path(__file__).parents[2] / "docs" / "adversary.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```diff\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
"""The differences by the headings above them."""
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
MODEL = BLOCKS[0]
SHORTER = {"range(5)": "range(2)", "generator_start=100": "generator_start=2", "batch_size=64": "batch_size=8"}
SHORTER |= {"batch_size=32": "batch_size=4"}


def before(difference: str) -> str:
    """Return a program as it was before the difference."""
    return "".join(line[1:] for line in difference.splitlines(keepends=True) if line[0] != "+")


def after(difference: str) -> str:
    """Return a program as it is with the difference."""
    return "".join(line[1:] for line in difference.splitlines(keepends=True) if line[0] != "-")


def run(program: str, prelude: str = "", digits: int = 32, changes: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a program after the model's lines, in float64, with few digits; return its names."""
    names: dict[str, Any] = {"__name__": "__page__"}
    exec(MODEL, names)
    # every n-th digit, since they are sorted by class
    names["digits"] = names["digits"][:: len(names["digits"]) // digits][:digits].double()
    names["patch"] = Spec(names["patch"].name, **(names["patch"].arguments | {"hidden_dim": 4}))
    for old, new in [*(changes or {}).items(), *SHORTER.items()]:
        program = program.replace(old, new)
    torch.set_default_dtype(torch.float64)
    try:
        exec(prelude, names)
        exec(compile(program, "docs/adversary.md", "exec", dont_inherit=True), names)
    finally:
        torch.set_default_dtype(torch.float32)
    return names


def weights(*networks: torch.nn.Module) -> list[torch.Tensor]:
    """Return copies of the weights of networks."""
    return [parameter.detach().clone() for network in networks for parameter in network.parameters()]


def like_torchrun() -> None:
    """Set the environment of a process of `torchrun` in a process that has joined its group already."""
    rank, size = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "GROUP_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29400", "TORCHELASTIC_RUN_ID": "test"}
