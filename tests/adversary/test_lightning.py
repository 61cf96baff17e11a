"""`Adversary` in modules of Lightning: the page's program, its checkpoints, and two processes."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import pytest
import torch

from tests.adversary.programs import PROGRAMS, after, before, like_torchrun, run, weights
from tests.ranks import on_ranks

# the import alone takes seconds
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("lightning"), reason="needs the extra `frameworks`: lightning"),
]
PRELUDE = "from lightning.pytorch import LightningModule, Trainer"
FIT = """
torch.manual_seed(0)
module = Model()
trainer = Trainer(
    max_epochs=EPOCHS, accelerator="cpu", devices=DEVICES, strategy="STRATEGY", logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(module, DataLoader(digits, batch_size=8), ckpt_path=PATH)
"""
# D as an attribute of the module, which the adversary is given
ATTRIBUTE = {
    "self.adversary = Adversary(patch,": "self.D = DISCRIMINATORS.build(patch); self.adversary = Adversary(self.D,"
}
ATTRIBUTE |= {"(self.model, self.adversary)]": "(self.model, self.D)]"}


def fitted(program, epochs, path=None, devices=1, strategy="auto", changes=None):
    fit = FIT.replace("EPOCHS", str(epochs)).replace("DEVICES", str(devices)).replace("STRATEGY", strategy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about workers and the like
        return run(program + fit.replace("PATH", repr(path)), PRELUDE, changes=changes)


@pytest.mark.parametrize("changes", [{}, ATTRIBUTE], ids=["owned", "attribute"])
def test_a_checkpoint_holds_d_once_and_continues_exactly(changes, tmp_path):
    program, path = after(PROGRAMS["Lightning"]), str(tmp_path / "half.ckpt")
    whole = fitted(program, 2, changes=changes)
    assert whole["trainer"].fit_loop.total_batch_idx == 7
    half = fitted(program, 1, changes=changes)
    half["trainer"].save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    of_D = sum(value.numel() for key, value in saved["state_dict"].items() if not key.startswith("model."))
    assert of_D == sum(parameter.numel() for parameter in half["module"].adversary.discriminator.parameters())
    resumed = fitted(program, 2, path, changes=changes)
    ours, theirs = resumed["module"], whole["module"]
    assert all(map(torch.equal, weights(ours), weights(theirs)))
    assert not torch.equal(weights(half["module"])[0], weights(ours)[0])
    for one, other in zip(resumed["trainer"].optimizers, whole["trainer"].optimizers, strict=True):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_the_program_before_the_change_runs():
    assert fitted(before(PROGRAMS["Lightning"]), 1)["trainer"].fit_loop.total_batch_idx == 3


def on_this_rank(program):
    like_torchrun()
    trained = fitted(program, 2, devices=2, strategy="ddp_find_unused_parameters_true")
    return weights(trained["module"])


def test_two_processes_end_with_equal_weights():
    first, second = on_ranks(2, on_this_rank, after(PROGRAMS["Lightning"]))
    assert all(map(torch.equal, first, second))
