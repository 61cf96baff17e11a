"""Several processes that train one model: what they compute is what one process with all their samples computes."""

from __future__ import annotations

import os
import signal
import time
import warnings
from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from gankit.context import StepContext
from gankit.data import StreamBatches, make_batches
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointError,
    CheckpointWarning,
    DataError,
    DeviceError,
    DistributedError,
    NonFiniteDataError,
    NonFiniteWarning,
)
from gankit.latents import Normal
from gankit.losses import LOSSES
from gankit.presets import ring, vanilla_mnist
from gankit.regularizers import REGULARIZERS
from gankit.seeds import stream_seed
from gankit.spec import Spec
from gankit.training import AdversarialTrainer, Checkpointer, Launch, Ranks, load_newest, synchronize_batch_norm
from gankit.training.feed import Feed
from tests.ranks import on_ranks
from tests.training.steps import step_of

STEPS = 20
SAMPLES = 8  # of each rank's batch

# what mixes the samples of a batch in a way that the mean over ranks is not
STATISTICS = {
    "dragan",
    "feature_matching",
    "lecam",
    "mode_seeking",
    "path_length",
    "relativistic_average",
    "relativistic_average_hinge",
    "relativistic_average_least_squares",
    "softmax",
}
LAZY = {"r1", "r2", "path_length"}


class Shared:
    """The noise that the ranks draw each for itself, in one process: rank after rank."""

    def __init__(self, ranks: int, replicas: int | None = None) -> None:
        def generator(replica, rank):
            return torch.Generator().manual_seed(stream_seed(replica, "training noise", rank))

        self.randoms = [[generator(i, rank) for rank in range(ranks)] for i in range(replicas or 1)]
        self.shape = (4,)
        self._draws = 0

    def __call__(self, count, *, generator=None, device=None):
        randoms = self.randoms[self._draws % len(self.randoms)]
        self._draws += 1
        latent = Normal(4)
        return torch.cat([latent(count // len(randoms), generator=one, device=device) for one in randoms])


class SharedContext(StepContext):
    """A context whose noise is that of the ranks, one after the other."""

    randoms = ()

    def _drawn(self, x, draw):
        parts = x.chunk(len(self.randoms))
        return torch.cat(
            [
                draw(torch.empty_like(part, requires_grad=False), one)
                for part, one in zip(parts, self.randoms, strict=True)
            ]
        )

    def normal_like(self, x):
        return self._drawn(x, lambda part, one: part.normal_(generator=one))

    def uniform_like(self, x):
        return self._drawn(x, lambda part, one: part.uniform_(generator=one))

    def changed(self, x, change):
        return torch.cat(
            [change(part, generator=one) for part, one in zip(x.chunk(len(self.randoms)), self.randoms, strict=True)]
        )


# BatchNorm takes away the bias before it: its gradient is what rounding leaves, which Adam makes large
def generator_network(norm: bool) -> nn.Module:
    layers = [
        nn.Linear(4, 8, bias=not norm),
        *([nn.BatchNorm1d(8)] if norm else []),
        nn.LeakyReLU(0.2),
        nn.Linear(8, 3),
    ]
    return nn.Sequential(*layers)


class Critic(nn.Module):
    """A small discriminator, with features for the parts that ask for them."""

    def __init__(self, norm: bool, condition: bool = False) -> None:
        super().__init__()
        layers = [
            nn.Linear(3, 8, bias=not norm),
            *([nn.BatchNorm1d(8)] if norm else []),
            nn.Softplus(),
            nn.Linear(8, 8),
        ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(8, 1)

    def features(self, x, condition=None):
        return self.body(x)

    def forward(self, x):
        return self.head(torch.nn.functional.softplus(self.body(x))).squeeze(-1)


def blurred(x, *, generator):
    """An augmentation of points."""
    return x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def built(name):
    """A regularizer; those that change the samples change points."""
    if name.name in ("balanced_consistency", "consistency"):
        return REGULARIZERS.get(name.name)(augment=blurred)
    return REGULARIZERS.build(name)


def trained(
    *,
    ranks: int,
    loss: str | Spec = "non_saturating",
    regularizers: tuple[str | Spec, ...] = (),
    norms: tuple[bool, bool] = (False, False),
    steps: int = STEPS,
    count: int = SAMPLES,
    **options,
):
    """Train in this process with whoever is there; return weights, buffers and metrics in float64."""
    torch.manual_seed(3)  # the ranks' own weights are rank 0's
    G, D = generator_network(norms[0]).double(), Critic(norms[1]).double()
    present = Ranks.present()
    alone = present.size < ranks
    latent = Shared(ranks) if alone else Normal(4)
    trainer = AdversarialTrainer(
        G,
        D,
        LOSSES.build(loss),
        latent=latent,
        generator_optimizer=torch.optim.Adam(G.parameters(), 2e-3),
        discriminator_optimizer=torch.optim.Adam(D.parameters(), 2e-3),
        regularizers={Spec.of(one).name: built(one) for one in regularizers},
        log_every_steps=7,
        **options,
    )
    data = torch.randn(100, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    batches = make_batches(
        data,
        batch_size=count * ranks if alone else count,
        sample_range=None,
        shard=(present.rank, present.size),
    )
    if alone:
        fit_with(type("Context", (SharedContext,), {"randoms": latent.randoms[0]}), trainer, batches, steps)
    else:
        trainer.fit(batches, steps=steps)
    found = {f"G.{n}": t for n, t in trainer.generator.state_dict().items()}
    found |= {f"D.{n}": t for n, t in trainer.discriminator.state_dict().items()}
    if trainer.averaged_generator is not None:
        found |= {f"average.{n}": t for n, t in trainer.averaged_generator.state_dict().items()}
    found |= {f"metrics.{n}": t for n, t in trainer.metrics.items()}
    for name, part in trainer.regularizers.items():
        if isinstance(part, nn.Module):
            found |= {f"{name}.{n}": t for n, t in part.named_buffers()}
    return {name: tensor.detach().numpy().copy() for name, tensor in found.items()}


def fit_with(make_context, trainer, batches, steps):
    """Make the steps of `fit` with contexts that are made in another way."""
    step, feed = step_of(trainer), Feed(batches, trainer.device)
    differentiate = partial(step.differentiate_eagerly, make_context=make_context)
    for _ in range(steps):
        trainer._decay_learning_rates()
        taken = [trainer._checked(next(feed)) for _ in range(trainer.discriminator_steps)]
        updates_generator = step.updates_generator
        trainer.state.finish_step(step(taken, differentiate), has_updated_generator=updates_generator)


def largest_difference(first, second) -> float:
    assert first.keys() == second.keys()
    return max(float(abs(first[name] - second[name]).max()) for name in first)


def of_regularizer(name: str) -> tuple[Spec]:
    return (Spec(name, every=3) if name in LAZY else Spec(name),)


CASES = {
    **{name: {"loss": name} for name in LOSSES.names()},
    **{name: {"regularizers": of_regularizer(name)} for name in REGULARIZERS.names() if name not in (Spec("r1_r2"),)},
    "two updates of D": {"discriminator_steps": 2, "loss": "wasserstein"},
    "clipping and averaging": {"max_gradient_norm": 0.1, "averaging_decay": 0.9},
    "warm-up": {"discriminator_warmup_steps": 5},
    "one pass of G": {"share_generator_forward": True},
    "one pass of D": {"concatenate_discriminator_passes": True},
}
SYNCHRONIZED = {
    "BatchNorm in G": {"norms": (True, False), "averaging_decay": 0.9},
    "BatchNorm in both": {"norms": (True, True)},
    "BatchNorm in both, one pass of G": {"norms": (True, True), "share_generator_forward": True},
    "BatchNorm in D, differentiated twice": {"norms": (False, True), "regularizers": (Spec("r1_r2"),)},
    "BatchNorm in both, with a penalty between them": {
        "norms": (True, True),
        "loss": "wasserstein",
        "regularizers": (Spec("wasserstein_gradient_penalty"),),
        "discriminator_steps": 2,
    },
}
# those that are only held against each other need no more than a line of metrics
CASES |= {name: CASES[name] | {"steps": 7} for name in STATISTICS}
EQUAL = {name: case for name, case in CASES.items() if name not in STATISTICS} | {
    name: case | {"synchronize_batch_norm": True} for name, case in SYNCHRONIZED.items()
}


def all_trained(cases, ranks):
    return {name: trained(ranks=ranks, **case) for name, case in cases.items()}


@pytest.fixture(scope="module")
def of_two_ranks():
    """What every case gives on each of two ranks."""
    return on_ranks(2, all_trained, CASES | EQUAL, 2)


@pytest.fixture(scope="module")
def of_four_ranks():
    """What some cases give on each of four ranks."""
    return on_ranks(4, all_trained, FOUR, 4)


FOUR = {name: EQUAL[name] | {"count": 4} for name in ("r1", "BatchNorm in D, differentiated twice")}


@pytest.mark.parametrize("case", EQUAL)
def test_two_ranks_equal_one_process_with_batches_twice_as_large(case, of_two_ranks):
    alone = trained(ranks=2, **EQUAL[case])
    for one in of_two_ranks:
        assert largest_difference(one[case], alone) < 1e-9


@pytest.mark.parametrize("case", FOUR)
def test_four_ranks_equal_one_process_with_batches_four_times_as_large(case, of_four_ranks):
    alone = trained(ranks=4, **FOUR[case])
    for one in of_four_ranks:
        assert largest_difference(one[case], alone) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_all_ranks_hold_the_same_bits(case, of_two_ranks):
    first, second = of_two_ranks
    assert largest_difference(first[case], second[case]) == 0


@pytest.mark.slow
def test_compiled_ranks_equal_one_eager_process():
    case = {"regularizers": (Spec("r1"),)}
    alone = trained(ranks=2, **case)
    for one in on_ranks(2, partial(trained, ranks=2, execution="compile", **case)):
        assert largest_difference(one, alone) < 1e-9


def test_without_synchronising_each_rank_normalises_its_own_batch():
    case = {"norms": (True, False)}
    first, second = on_ranks(2, partial(trained, ranks=2, **case))
    assert largest_difference(first, second) == 0  # the statistics are averaged
    assert largest_difference(first, trained(ranks=2, **case)) > 1e-3


# --- BatchNorm over all ranks ----------------------------------------------------------------------------


def normalised(kind: str, size: int):
    """Output, gradient, gradient of the gradient's norm, and statistics of one layer, on a rank's part of x."""
    present = Ranks.present()
    shape = {"1d": (12, 5), "2d": (12, 5, 3, 2), "3d": (12, 5, 2, 2, 2)}[kind]
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random, dtype=torch.float64) * 3 + 5
    weights = torch.randn(shape, generator=random, dtype=torch.float64)
    parts = slice(None) if present.size < size else slice(present.rank * 12 // size, (present.rank + 1) * 12 // size)
    x, weights = x[parts].requires_grad_(), weights[parts]
    layer = getattr(nn, f"BatchNorm{kind}")(5, dtype=torch.float64)
    nn.init.uniform_(layer.weight, generator=random)
    layer = synchronize_batch_norm(layer)
    y = layer(x)
    [gradient] = torch.autograd.grad((y * weights).sum(), x, create_graph=True)
    second, of_weight = torch.autograd.grad((gradient.square() * weights).sum(), [x, layer.weight])
    of_weight = of_weight.clone()
    if present.size > 1:
        dist.all_reduce(of_weight)
    layer(x.detach() * 2)
    layer.eval()
    found = (y, gradient, second, of_weight, layer.running_mean, layer.running_var, layer(x))
    return [one.detach().numpy() for one in found], int(layer.num_batches_tracked)


@pytest.mark.parametrize("kind", ["1d", "2d", "3d"])
def test_synchronised_batch_norm_and_its_derivatives_are_those_of_all_samples(kind):
    (y, gradient, second, of_weight, mean, variance, evaluated), count = normalised(kind, 3)
    parts = on_ranks(3, normalised, kind, 3)
    for i, whole in enumerate((y, gradient, second)):
        together = numpy.concatenate([part[0][i] for part in parts])
        assert abs(together - whole).max() < 1e-12 * abs(whole).max() + 1e-12
    assert abs(numpy.concatenate([part[0][6] for part in parts]) - evaluated).max() < 1e-12
    for part, tracked in parts:
        assert tracked == count == 2
        for i, whole in ((3, of_weight), (4, mean), (5, variance)):
            assert abs(part[i] - whole).max() < 1e-12 * abs(whole).max()


def in_lower_precision():
    layer = synchronize_batch_norm(nn.BatchNorm1d(2))
    x = torch.tensor([[1.0, 1e4]], dtype=torch.bfloat16) * (1 + Ranks.present().rank)
    return str(layer(x).dtype), layer(x).float().detach().numpy()


def test_synchronised_batch_norm_keeps_the_type_and_counts_in_float32():
    outcomes = on_ranks(2, in_lower_precision)
    assert [name for name, _ in outcomes] == ["torch.bfloat16"] * 2
    assert abs(outcomes[0][1] + outcomes[1][1]).max() == 0  # one lies as far below the mean as the other above


# --- what belongs to each rank ---------------------------------------------------------------------------


def what_is_own():
    preset = vanilla_mnist.replace(
        batch_size=500, generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8])
    )
    trainer, batches = preset(device="cpu", seed=4), preset.batches(device="cpu", seed=4)
    points = ring.batches(device="cpu")
    orders = [torch.cat([batches._next_rows() for _ in range(len(batches))], 1)[0].tolist() for _ in range(1)]
    latents = trainer.draw_latents(3, trainer.noise).numpy()
    return len(batches), orders[0], latents, next(iter(points)).numpy(), torch.rand(3).numpy()


def test_each_rank_has_its_own_noise_and_its_own_part_of_the_data():
    outcomes = on_ranks(2, what_is_own)
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


@pytest.mark.parametrize("with_a_sampler", [True, "data"])
def test_a_loader_gives_each_rank_a_part_and_shuffles_every_epoch_anew(with_a_sampler):
    first, second = on_ranks(2, of_a_loader, 5, with_a_sampler)
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


# --- the course of a training ----------------------------------------------------------------------------

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8]), batch_size=16, learning_rate_decay=False
)


def begun_otherwise():
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


def test_all_begin_with_the_weights_of_the_first():
    first, second = on_ranks(2, begun_otherwise)
    assert (first == second).all()


def exchanges(options):
    counts = []
    real = dist.all_reduce

    def counted(tensor, *arguments, **more):
        counts.append(tensor.numel() * tensor.element_size())
        return real(tensor, *arguments, **more)

    dist.all_reduce = counted
    trainer = vanilla_mnist(device="cpu", **options)
    trainer.step(torch.rand(4, 1, 28, 28))
    weights = sum(p.numel() for n in (trainer.generator, trainer.discriminator) for p in n.parameters())
    buffers = sum(b.numel() for b in trainer.generator.buffers() if b.is_floating_point())
    return counts, 4 * weights, 4 * buffers, len(trainer.metrics)


def test_a_step_exchanges_once_a_half_the_gradients_the_statistics_and_the_results():
    for counts, weights, buffers, results in on_ranks(2, exchanges, {}):
        assert len(counts) == 2
        assert sum(counts) == weights + 2 * buffers + 4 * results


def test_synchronised_batch_norm_exchanges_twice_a_layer_and_pass_and_twice_in_the_backward_pass():
    for counts, *_ in on_ranks(2, exchanges, {"synchronize_batch_norm": True}):
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


def test_nan_on_one_rank_ends_the_training_on_all():
    (first, _), (second, _) = on_ranks(2, with_nan_on_one, "raise")
    assert first == "batches must be finite, got NaN or infinite values on another rank in the 2 steps before step 3"
    assert second == "batches must be finite, got NaN or infinite values in the 2 steps before step 3"
    assert load_newest("raise").step == 2


def test_nan_on_one_rank_is_skipped_on_all():
    for finite, told in on_ranks(2, with_nan_on_one, "skip"):
        assert finite is True
        assert told == ["1 updates were left out before step 4, whose loss or gradient was not finite"]


def test_nan_on_one_rank_rolls_all_back_until_it_does_not_help():
    for message, told in on_ranks(2, with_nan_on_one, "rollback"):
        assert "batches must be finite" in message
        assert sum("went back from step 4 to step 2" in one for one in told) == 5
    assert load_newest("rollback").step == 2


def bereft():
    trainer, batches = POINTS(device="cpu"), POINTS.batches(device="cpu")
    trainer.fit(batches, steps=2)
    if trainer.ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(DistributedError, match="every rank must be there for an exchange, got a failed one: "):
        trainer.fit(batches, steps=10_000)
    return time.monotonic() - started


def test_the_loss_of_a_rank_is_an_error_and_no_waiting():
    seconds, _ = on_ranks(2, bereft, seconds=60)
    assert seconds < 30


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
    with pytest.raises(BadValueError, match="execution 'eager' can, got 'compile'"):
        trainer(G, D, execution="compile", synchronize_batch_norm=True)
    with pytest.raises(BadArgumentsError, match="every_seconds is for one process"):
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


# --- the launcher ----------------------------------------------------------------------------------------


def test_an_environment_that_is_not_whole_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadValueError, match="got an environment without LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
        Launch()


@pytest.mark.parametrize(
    ("size", "local", "words"),
    [
        (1, 1, "gankit"),
        (2, 2, "torchrun --nproc-per-node 2 -m gankit"),
        (16, 8, "torchrun --nnodes 2 --nproc-per-node 8 -m gankit"),
    ],
)
def test_the_launcher_tells_how_it_is_called(size, local, words, monkeypatch):
    names = {"RANK": 0, "LOCAL_RANK": 0, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}
    for name, value in (names | {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": local}).items():
        monkeypatch.setenv(name, str(value))
    assert " ".join(Launch().command) == words


def test_without_a_launcher_there_is_one_rank():
    with Launch().joined() as ranks:
        assert (ranks.rank, ranks.size) == (0, 1)
        assert ranks.gather("a") == ["a"]
        assert ranks.any(True, False) == [True, False]
    assert Launch().note("name", "value") == "value"


def test_more_processes_than_devices_are_refused(monkeypatch):
    names = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="got process 3 and 2 devices"), Launch().joined():
        pass


def told_by_the_first():
    ranks = Ranks.present()

    def fail():
        raise BadValueError("a sentence")

    with pytest.raises(BadValueError, match="a sentence"):
        ranks.first(fail)
    return ranks.first(lambda: ranks.rank), ranks.gather(ranks.rank), ranks.any(ranks.rank == 1, False)


def test_the_first_rank_makes_things_for_all_and_its_errors_are_theirs():
    assert on_ranks(2, told_by_the_first) == [(0, [0, 1], [True, False]), (0, [], [True, False])]
