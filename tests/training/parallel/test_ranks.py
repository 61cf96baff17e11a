"""What the ranks share, what each has for itself, and what several ranks do not support."""

from __future__ import annotations

import importlib
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn import functional
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from gankit.data import StreamBatches, make_batches
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataError,
    DistributedError,
)
from gankit.latents import Normal
from gankit.losses import LOSSES
from gankit.presets import ring, vanilla_mnist
from gankit.regularizers import REGULARIZERS
from gankit.spec import Spec
from gankit.training import AdversarialTrainer, Checkpointer, Ranks
from tests.ranks import on_ranks
from tests.training.parallel.rank_training import (
    POINTS,
    Critic,
    generator_network,
)


def results_of_the_first_rank():
    ranks = Ranks.present()

    def fail():
        raise BadValueError("a sentence")

    with pytest.raises(BadValueError, match="a sentence"):
        ranks.first(fail)
    return ranks.first(lambda: ranks.rank), ranks.gather(ranks.rank), ranks.any(ranks.rank == 1, False)


def test_what_the_first_rank_makes_or_raises_reaches_all_ranks():
    assert on_ranks(2, results_of_the_first_rank) == [(0, [0, 1], [True, False]), (0, [], [True, False])]


def threads_after_the_end_of_the_group():
    importlib.reload(functional)  # as if this process had imported it only now, as an optimizer does
    Ranks.present()
    group = weakref.ref(dist.distributed_c10d._get_default_group())
    dist.destroy_process_group()
    threads = [(path / "comm").read_text() for path in Path("/proc/self/task").iterdir()]
    return group() is None, [name for name in threads if "gloo" in name]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the threads are found in /proc")
def test_the_group_and_its_threads_end_when_the_group_is_destroyed():
    assert on_ranks(1, threads_after_the_end_of_the_group) == [(True, [])]


# --- what belongs to each rank ---------------------------------------------------------------------------


def own_noise_and_data():
    preset = vanilla_mnist.replace(
        batch_size=500, generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8])
    )
    trainer, batches = preset(device="cpu", seed=4), preset.batches(device="cpu", seed=4)
    points = ring.batches(device="cpu")
    orders = [torch.cat([batches._next_rows() for _ in range(len(batches))], 1)[0].tolist() for _ in range(1)]
    latents = trainer.draw_latents(3, trainer.noise).numpy()
    return len(batches), orders[0], latents, next(iter(points)).numpy(), torch.rand(3).numpy()


def test_each_rank_has_its_own_noise_and_its_own_part_of_the_data():
    outcomes = on_ranks(2, own_noise_and_data)
    (count, first, *own), (_, second, *others) = outcomes
    assert count == 5
    assert not set(first) & set(second)
    assert sorted(first + second) == list(range(5000))
    for one, other in zip(own[:2], others[:2], strict=True):
        assert not (one == other).any()
    alone = vanilla_mnist(device="cpu", seed=4)
    assert (alone.draw_latents(3, alone.noise).numpy() == own[0]).all()  # rank 0 is a process alone


def of_a_loader(batch_size, with_a_sampler):
    ranks = Ranks.present()
    data = TensorDataset(torch.arange(40.0).reshape(40, 1))
    shard = (ranks.rank, ranks.size)
    if with_a_sampler == "data":
        batches = make_batches(data, batch_size=batch_size, sample_range=None, shard=shard)
    else:
        sampler = DistributedSampler(data, seed=5) if with_a_sampler else None
        loader = DataLoader(data, batch_size, sampler=sampler)
        batches = make_batches(loader, batch_size=batch_size, sample_range=None, shard=shard)
    assert isinstance(batches, StreamBatches)
    return [torch.cat(list(batches)).flatten().tolist() for _ in range(2)]


def of_two_loaders():
    return {with_a_sampler: of_a_loader(5, with_a_sampler) for with_a_sampler in (True, "data")}


@pytest.fixture(scope="module")
def loaders_of_two_ranks():
    """Two epochs of each loader on each of two ranks."""
    return on_ranks(2, of_two_loaders)


@pytest.mark.parametrize("with_a_sampler", [True, "data"])
def test_a_loader_gives_each_rank_a_part_and_shuffles_every_epoch(with_a_sampler, loaders_of_two_ranks):
    first, second = (one[with_a_sampler] for one in loaders_of_two_ranks)
    for one, other in zip(first, second, strict=True):
        assert sorted(one + other) == list(range(40))
    assert first[0] != first[1]


def refused_loader():
    with pytest.raises(BadArgumentsError, match="must have a torch.utils.data.DistributedSampler, got one with a Seq"):
        of_a_loader(5, None)
    with pytest.raises(DataError, match="must fill a batch of 21 on each of 2 ranks, got 40 samples"):
        of_a_loader(21, "data")
    with pytest.raises(DataError, match="must fill a batch of 21 on each of 2 ranks, got 40 samples"):
        make_batches(torch.zeros(40, 1), batch_size=21, shard=(0, 2))


def test_a_loader_that_gives_every_rank_the_same_samples_is_refused():
    on_ranks(2, refused_loader)


def test_a_shard_that_is_none_is_refused():
    with pytest.raises(BadValueError, match=r"shard must be \(rank, ranks\) with 0 <= rank < ranks, got \(2, 2\)"):
        make_batches(torch.zeros(40, 1), batch_size=2, shard=(2, 2))


def constructed_before_or_after():
    after, alone = POINTS(device="cpu"), POINTS(device="cpu", ranks=Ranks())
    dist.destroy_process_group()
    before = POINTS(device="cpu")
    whole = make_batches(torch.zeros(32, 2), batch_size=16, sample_range=None)
    of_rank_0 = POINTS.batches(device="cpu")
    place = f"file://{Path.cwd()}/another_store"
    with pytest.raises(DistributedError, match="got one constructed with 2 processes and used with 1;"):
        after.fit(POINTS.batches(device="cpu"), steps=1)
    dist.init_process_group("gloo", init_method=place, rank=int(after.ranks.rank), world_size=2)
    batches = POINTS.batches(device="cpu")
    sentence = "a trainer must be constructed after torch.distributed.init_process_group .* with 1 processes and used w"
    with pytest.raises(DistributedError, match=sentence):
        before.fit(batches, steps=1)
    with pytest.raises(DistributedError, match=sentence):
        before.step(next(iter(batches)))
    with pytest.raises(DataError, match=r"must be the part of their own rank, \(., 2\), got the shard \(0, 1\);"):
        POINTS(device="cpu").fit(whole, steps=1)
    if after.ranks.rank == 1:
        with pytest.raises(DataError, match="must be those of their own rank, 1, got those of rank 0; make them after"):
            after.ranks.check_shard(of_rank_0)
    return before.steps_done, alone.fit(batches, steps=2).steps_done


def test_a_trainer_that_does_not_know_of_the_other_processes_is_refused():
    assert on_ranks(2, constructed_before_or_after) == [(0, 2), (0, 2)]


# --- what does not go together ---------------------------------------------------------------------------


def refusals():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    G = generator_network(False)
    D = Critic(False)

    def trainer(generator, discriminator, **options):
        return AdversarialTrainer(
            generator,
            discriminator,
            LOSSES.build("hinge"),
            latent=Normal(4),
            generator_optimizer=torch.optim.SGD(generator.parameters(), 0.1),
            discriminator_optimizer=torch.optim.SGD(discriminator.parameters(), 0.1),
            **options,
        )

    with pytest.raises(BadArgumentsError, match="discriminator must be the network itself, got one inside Distributed"):
        trainer(G, nn.parallel.DistributedDataParallel(D))
    with pytest.raises(BadValueError, match="execution 'eager' allows, got 'compile'"):
        trainer(G, D, execution="compile", synchronize_batch_norm=True)
    with pytest.raises(BadArgumentsError, match="every_seconds is for a single process"):
        POINTS(device="cpu", callbacks=[Checkpointer("here", every_seconds=1)]).fit(
            POINTS.batches(device="cpu"), steps=1
        )
    alone = POINTS(device="cpu", ranks=Ranks())
    assert alone.ranks.size == 1
    sharded = fully_shard(generator_network(False), mesh=init_device_mesh("cpu", (2,)))
    with pytest.raises(
        BadArgumentsError, match="generator must have its weights whole on every process, got 0.weight as"
    ):
        trainer(sharded, D)


def test_what_does_not_go_together_is_refused():
    on_ranks(2, refusals)


def test_replicas_do_not_normalise_over_ranks():
    with pytest.raises(BadValueError, match="synchronize_batch_norm is for one model, got it with replicas"):
        POINTS(device="cpu", replicas=2, synchronize_batch_norm=True)


# --- what the ranks must have in common ------------------------------------------------------------------


def fit_with(**of_rank_1):
    """Return the error of a trainer and of its `fit` whose arguments differ on rank 1."""
    of_rank_0 = {"steps": 2, "lr": 0.1, "loss": "hinge", "width": 8, "resumed": 0, "checkpoints": None}
    given = of_rank_0 | (of_rank_1 if Ranks.present().rank == 1 else {})
    options = {name: value for name, value in given.items() if name not in of_rank_0}
    G = nn.Sequential(nn.Linear(4, given["width"]), nn.LeakyReLU(options.pop("slope", 0.2)), nn.LazyLinear(3))
    D = Critic(False)
    G(torch.zeros(1, 4))
    try:
        trainer = AdversarialTrainer(
            G,
            D,
            LOSSES.build(given["loss"]),
            latent=Normal(4),
            generator_optimizer=torch.optim.SGD(G.parameters(), given["lr"]),
            discriminator_optimizer=torch.optim.SGD(D.parameters(), 0.1),
            **options,
        )
        if given["checkpoints"] is not None:
            trainer.callbacks.append(Checkpointer("here", every_steps=given["checkpoints"]))
        trainer.state.steps_done = given["resumed"]
        trainer.fit([torch.zeros(4, 3)], steps=given["steps"])
    except BadValueError as error:
        return str(error)
    return "none"


DIFFERENCES = {
    "an optimizer's number": ({"lr": 0.2}, "generator_optimizer lr 0.1 on rank 0 and 0.2 on rank 1"),
    "a loss": ({"loss": "wasserstein"}, "loss Hinge(clipped_generator=False) on rank 0 and Wasserstein() on rank 1"),
    "a loss's number": (
        {"loss": Spec("non_saturating", label_smoothing=0.1)},
        "loss Hinge(clipped_generator=False) on rank 0 and NonSaturating(label_smoothing=0.1) on rank 1",
    ),
    "a network": ({"width": 9}, "generator 0 Linear(in_features=4, out_features=8, bias=True) on rank 0 and Linear("),
    "a layer's number": ({"slope": 0.1}, "generator 1 LeakyReLU(negative_slope=0.2) on rank 0 and LeakyReLU("),
    "an option": ({"discriminator_steps": 2}, "discriminator_steps 1 on rank 0 and 2 on rank 1"),
    "the seed": ({"seed": 1}, "seed 0 on rank 0 and 1 on rank 1"),
    "a penalty": (
        {"regularizers": {"r1": REGULARIZERS.build("r1")}},
        "regularizer r1 missing on rank 0 and R1(weight=10.0, every=1, reduction='mean', sigma=None) on rank 1",
    ),
    "the number of steps": ({"steps": 3}, "steps 2 on rank 0 and 3 on rank 1"),
    "a checkpoint that one rank has loaded": ({"resumed": 1}, "steps_done 0 on rank 0 and 1 on rank 1"),
    "the steps between checks": ({"check_every_steps": 1}, "check_every_steps 100 on rank 0 and 1 on rank 1"),
    "a checkpointer": ({"checkpoints": 2}, "checkpointer's every None on rank 0 and 2 on rank 1"),
    "nothing": ({}, "none"),
}


def all_differences():
    return {name: fit_with(**given) for name, (given, _) in DIFFERENCES.items()}


@pytest.fixture(scope="module")
def errors_of_two_ranks():
    """The error of each case on each of two ranks."""
    return on_ranks(2, all_differences)


@pytest.mark.parametrize("case", DIFFERENCES)
def test_ranks_that_were_given_different_trainings_are_refused_with_what_differs(case, errors_of_two_ranks):
    first, second = (one[case] for one in errors_of_two_ranks)
    assert first == second
    assert DIFFERENCES[case][1] in first
    assert case == "nothing" or first.startswith("every rank must be given the same training, got ")
