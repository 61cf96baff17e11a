"""Several processes that train together, for tests: forked from a clean one, joined by gloo."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# with pytest, which the modules of the tests import, a start takes a tenth of a second instead of one
_CONTEXT.set_forkserver_preload(["torch", "torch.distributed", "torchvision", "pytest", "gankit.cli.train"])


def on_ranks(size: int, function: Callable[..., Any], *arguments: Any, seconds: float = 120) -> list[Any]:
    """Call a function of a module in `size` processes of one group; return what each returned.

    Raises:
        AssertionError: with the traceback of the first rank that failed, or for one that did not come to an end.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            _CONTEXT.Process(
                target=_run,
                args=(rank, size, folder, str(Path.cwd()), warnings.filters[:], function, arguments),
                daemon=True,
            )
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(seconds)
        hanging = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for process in processes:
            process.kill()
        assert not hanging, f"ranks {hanging} did not come to an end within {seconds} s"
        files = [Path(folder, f"outcome_{rank}") for rank in range(size)]
        # one that was killed leaves nothing
        outcomes = [pickle.loads(file.read_bytes()) if file.exists() else (None, None) for file in files]
        failures = [failure for _, failure in outcomes if failure]
        assert not failures, failures[0]
        return [value for value, _ in outcomes]


def _run(
    rank: int, size: int, folder: str, place: str, filters: list[Any], function: Callable[..., Any], arguments: Any
) -> None:
    import torch
    import torch.distributed as dist

    os.chdir(place)
    warnings.resetwarnings()
    warnings.filters.extend(filters)  # those of the test
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    try:
        outcome = function(*arguments), None
    except BaseException:  # noqa: BLE001
        outcome = None, f"rank {rank}:\n{traceback.format_exc()}"
    Path(folder, f"outcome_{rank}").write_bytes(pickle.dumps(outcome))
    os._exit(0)  # the others may be dead
