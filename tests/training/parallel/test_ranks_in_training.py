"""The course of a training on several ranks: its start, its exchanges, its end, and its failures."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from gankit.errors import (
    CheckpointError,
    CheckpointWarning,
    DistributedError,
    GankitError,
    NonFiniteDataError,
    NonFiniteWarning,
)
from gankit.latents import Normal
from gankit.losses import LOSSES
from gankit.presets import vanilla_mnist
from gankit.runs import Recipe, Run
from gankit.training import AdversarialTrainer, Checkpointer, MetricsLog, Ranks, load_newest
from tests.ranks import on_ranks
from tests.training.parallel.rank_training import (
    POINTS,
    Critic,
    generator_network,
)


def weights_after_different_starts():
    torch.manual_seed(Ranks.present().rank)
    G, D = generator_network(True), Critic(False)
    trainer = AdversarialTrainer(
        G,
        D,
        LOSSES.build("hinge"),
        latent=Normal(4),
        generator_optimizer=torch.optim.SGD(G.parameters(), 0.1),
        discriminator_optimizer=torch.optim.SGD(D.parameters(), 0.1),
    )
    return torch.cat([p.flatten() for p in (*trainer.generator.parameters(), *D.parameters())]).detach().numpy()


def test_all_ranks_start_from_the_weights_of_rank_0():
    first, second = on_ranks(2, weights_after_different_starts)
    assert (first == second).all()


class Labelled(nn.Module):
    """A network with an embedding that another one may share."""

    def __init__(self, embedding, inputs, outputs):
        super().__init__()
        self.embedding, self.first, self.last = embedding, nn.Linear(inputs + 3, 8), nn.Linear(8, outputs)

    def forward(self, x, condition):
        y = self.last(self.first(torch.cat([x, self.embedding(condition)], 1)).tanh())
        return y.squeeze(1) if y.shape[1] == 1 else y


def after_frozen_and_shared_parameters():
    rank = Ranks.present().rank
    torch.manual_seed(0)
    embedding = nn.Embedding(4, 3)
    G, D = Labelled(embedding, 4, 2), Labelled(embedding, 2, 1)
    trainer = AdversarialTrainer(
        G,
        D,
        LOSSES.build("hinge"),
        latent=Normal(4),
        generator_optimizer=torch.optim.SGD(G.parameters(), 0.1, momentum=0.9, weight_decay=0.1),
        discriminator_optimizer=torch.optim.SGD(D.parameters(), 0.1, momentum=0.9, weight_decay=0.1),
        max_gradient_norm=0.5,
    )
    random = torch.Generator().manual_seed(rank)
    batches = [(torch.randn(8, 2, generator=random), torch.arange(8) % 4) for _ in range(3)]
    trainer.fit(batches, steps=2)
    frozen = G.first.weight.detach().clone()
    G.first.requires_grad_(False)
    trainer.fit(batches, steps=4)
    D.requires_grad_(False)  # with the embedding
    whole = [p.detach().clone() for p in D.parameters()]
    trainer.fit(batches, steps=6)
    is_kept = torch.equal(G.first.weight, frozen) and all(map(torch.equal, D.parameters(), whole))
    norm = float(trainer.metrics["discriminator_gradient_norm"])
    return is_kept, norm, torch.cat([p.detach().flatten() for p in (*G.parameters(), *D.parameters())]).numpy()


def test_ranks_with_frozen_and_shared_parameters_stay_alike():
    first, second = on_ranks(2, after_frozen_and_shared_parameters)
    assert first[:2] == second[:2] == (True, 0.0)
    assert (first[2] == second[2]).all()


def exchanges(options):
    counts = []
    real = dist.all_reduce

    def counted(tensor, *arguments, **more):
        counts.append(tensor.numel() * tensor.element_size())
        return real(tensor, *arguments, **more)

    trainer = vanilla_mnist(device="cpu", **options)
    dist.all_reduce = counted
    try:
        trainer.step(torch.rand(4, 1, 28, 28))
    finally:
        dist.all_reduce = real
    weights = sum(p.numel() for n in (trainer.generator, trainer.discriminator) for p in n.parameters())
    buffers = sum(b.numel() for b in trainer.generator.buffers() if b.is_floating_point())
    return counts, 4 * weights, 4 * buffers, len(trainer.metrics)


def all_exchanges():
    return {synchronize: exchanges({"synchronize_batch_norm": synchronize}) for synchronize in (False, True)}


@pytest.fixture(scope="module")
def exchanges_of_two_ranks():
    """The exchanges of one step on each of two ranks, without and with synchronised BatchNorm."""
    return on_ranks(2, all_exchanges)


def test_a_step_exchanges_once_a_half_the_gradients_the_statistics_and_the_results(exchanges_of_two_ranks):
    for counts, weights, buffers, results in (one[False] for one in exchanges_of_two_ranks):
        assert len(counts) == 2
        assert sum(counts) == weights + 2 * buffers + 4 * results


def test_synchronised_batch_norm_exchanges_twice_a_layer_and_pass_and_twice_in_the_backward_pass(
    exchanges_of_two_ranks,
):
    for counts, *_ in (one[True] for one in exchanges_of_two_ranks):
        assert len(counts) == 2 + 4 * (2 + 2 + 2)


def stopped_by_one():
    trainer = POINTS(device="cpu", check_every_steps=4)

    class Stop:
        every = 5

        def __call__(self, trainer):
            if trainer.ranks.rank == 1:
                trainer.stop()

    trainer.callbacks.append(Stop())
    return trainer.fit(POINTS.batches(device="cpu"), steps=50).steps_done


def test_one_rank_that_stops_stops_all_at_the_next_check():
    assert on_ranks(2, stopped_by_one) == [8, 8]


def whole_state(trainer):
    state = trainer.state_dict()
    numbers = {f"{n}.{k}": v.numpy() for n in ("generator", "discriminator") for k, v in state[n].items()}
    return numbers | {
        "noise": state["random"]["noise"].numpy(),
        "data": trainer.data_state()["batches"]["random"][0].numpy(),
    }


def saved_and_resumed():
    """The state after 12 steps, made at a stretch; and with a checkpoint between them."""
    both = []
    for name, stop in (("whole", 12), ("part", 7)):
        trainer, batches = POINTS(device="cpu", seed=2), POINTS.batches(device="cpu", seed=2)
        with Checkpointer(name, every_steps=7) as checkpointer:
            trainer.callbacks.append(checkpointer)
            trainer.fit(batches, steps=stop)
        both.append(whole_state(trainer))
    dist.barrier()
    torch.manual_seed(77)
    trainer, batches = POINTS(device="cpu", seed=2), POINTS.batches(device="cpu", seed=2)
    load_newest("part").restore(trainer, batches)
    both[1] = whole_state(trainer.fit(batches, steps=12))
    return both


def test_ranks_go_on_from_a_checkpoint_to_the_last_bit_each_with_its_own_noise():
    outcomes = on_ranks(2, saved_and_resumed)
    for whole, resumed in outcomes:
        assert whole.keys() == resumed.keys()
        assert all((whole[name] == resumed[name]).all() for name in whole)
    assert not (outcomes[0][0]["noise"] == outcomes[1][0]["noise"]).all()
    assert [path.name for path in Path("part").iterdir()] == ["step_0000007"]
    with pytest.raises(CheckpointError, match="as many ranks as there are, 1, got 2"):
        load_newest("part").restore(POINTS(device="cpu"), POINTS.batches(device="cpu"))


def refusals_of_rank_0():
    """The error of each file or folder that rank 0 cannot write."""

    def with_a_log_of_another_training():
        train_with(MetricsLog("other.jsonl", every=1))

    def with_a_file_for_a_folder():
        train_with(Checkpointer("file", every_steps=1))

    def train_with(callback):
        POINTS(device="cpu", callbacks=[callback]).fit(POINTS.batches(device="cpu"), steps=1)

    def resumed():
        Run("run", Recipe(preset=POINTS, device="cpu", ranks=2)).resume(progress=False)

    messages = []
    for attempt in (with_a_log_of_another_training, with_a_file_for_a_folder, resumed):
        try:
            attempt()
        except GankitError as error:
            messages.append(str(error))
    return messages


def test_what_rank_0_cannot_write_is_an_error_on_all():
    Path("other.jsonl").write_text('{"step": 1}\n')
    Path("file").write_text("")
    Path("run/metrics.jsonl").mkdir(parents=True)
    first, second = on_ranks(2, refusals_of_rank_0, seconds=60)
    assert first == second
    for message, says in zip(first, ("another training", "must be writable, got 'file'", "metrics.jsonl"), strict=True):
        assert says in message


def with_nan_on_one(policy):
    ranks = Ranks.present()
    trainer = POINTS(device="cpu", check_every_steps=2, on_non_finite=policy)
    random = torch.Generator().manual_seed(ranks.rank)
    data = [torch.randn(16, 2, generator=random) for _ in range(4)]
    if ranks.rank == 1:
        data[2][3, 1] = torch.nan
    try:
        with Checkpointer(policy, every_steps=1) as checkpointer, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer.callbacks.append(checkpointer)
            trainer.fit(data, steps=4)
    except NonFiniteDataError as error:
        return str(error), [str(one.message) for one in caught if one.category in (NonFiniteWarning, CheckpointWarning)]
    finite = all(p.isfinite().all() for p in trainer.generator.parameters())
    return finite, [str(one.message) for one in caught if one.category is NonFiniteWarning]


def with_nan_under_every_policy():
    return {policy: with_nan_on_one(policy) for policy in ("raise", "skip", "rollback")}


@pytest.fixture(scope="module")
def nan_on_one_of_two(tmp_path_factory):
    """What each of two ranks reports under each policy, and the folder of their checkpoints."""
    folder = tmp_path_factory.mktemp("nan_on_one_of_two")
    with contextlib.chdir(folder):
        return on_ranks(2, with_nan_under_every_policy), folder


def test_nan_on_one_rank_ends_the_training_on_all(nan_on_one_of_two):
    outcomes, folder = nan_on_one_of_two
    (first, _), (second, _) = (one["raise"] for one in outcomes)
    assert first == "batches must be finite, got NaN or infinite values on another rank in the 2 steps before step 3"
    assert second == "batches must be finite, got NaN or infinite values in the 2 steps before step 3"
    assert load_newest(folder / "raise").step == 2


def test_nan_on_one_rank_is_skipped_on_all(nan_on_one_of_two):
    for finite, warned in (one["skip"] for one in nan_on_one_of_two[0]):
        assert finite is True
        assert warned == ["1 updates were skipped before step 4, whose loss or gradient was not finite"]


def test_nan_on_one_rank_rolls_all_back_until_it_does_not_help(nan_on_one_of_two):
    outcomes, folder = nan_on_one_of_two
    for message, warned in (one["rollback"] for one in outcomes):
        assert "batches must be finite" in message
        assert sum("went back from step 4 to step 2" in one for one in warned) == 5
    assert load_newest(folder / "rollback").step == 2


def seconds_until_a_lost_rank_is_noticed():
    trainer, batches = POINTS(device="cpu"), POINTS.batches(device="cpu")
    trainer.fit(batches, steps=2)
    if trainer.ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(DistributedError, match="every rank must take part in an exchange, got one that failed: "):
        trainer.fit(batches, steps=10_000)
    return time.monotonic() - started


def test_the_loss_of_a_rank_is_soon_an_error():
    seconds, _ = on_ranks(2, seconds_until_a_lost_rank_is_noticed, seconds=60)
    assert seconds < 30
