"""The benchmark's arithmetic, order and tables. What needs a clock is in `benchmarks/`."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

import gankit
from benchmarks import checkouts, saving, stacked_mnist
from benchmarks.checkouts import COUNTED, differences, ratio_of
from benchmarks.floors import Peaks, Work, arithmetic_floor, memory_floor, step_bytes, step_flops, update_bytes
from benchmarks.policies import answer_to, measure_under, policies_for
from benchmarks.ranks import bytes_sent, measure
from benchmarks.ranks import report as ranks_report
from benchmarks.report import GANKIT, RESIDENT, TUTORIAL, VANILLA, Report
from benchmarks.row import Row
from benchmarks.rows import Effort, Measured, TooSlowError, all_rows, cpu_rows, cuda_rows, rows_for
from benchmarks.saving import Saving
from benchmarks.scripts import Networks, tutorial
from benchmarks.timing import DEFAULT, PASSIVE, interleaved, order, ratios
from gankit import PRESETS, AdversarialTrainer, Spec
from gankit.latents import Normal
from gankit.losses import LOSSES, NonSaturating
from gankit.metrics import StackedMnistModes
from gankit.presets import ring
from gankit.regularizers import R1, REGULARIZERS
from gankit.training import Ranks
from gankit.training.step.options import OPTION_NAMES
from tests.ranks import on_ranks

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
G_LAYERS, D_LAYERS = [(3, 8), (8, 6)], [(6, 4), (4, 1)]
N = 5


def weights(layers):
    return sum(a * b for a, b in layers)


def little(optimizer=torch.optim.Adam, **options):
    G = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6))
    D = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten(0))
    optimizers = {
        "generator_optimizer": optimizer(G.parameters(), lr=1e-3),
        "discriminator_optimizer": optimizer(D.parameters(), lr=1e-3),
    }
    return AdversarialTrainer(G, D, NonSaturating(), latent=Normal(3), execution="eager", **optimizers, **options)


# --- floors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_the_flops_of_a_step_are_those_of_its_matrix_products(critic_steps):
    g, g1, d, d1 = weights(G_LAYERS), weights(G_LAYERS[:1]), weights(D_LAYERS), weights(D_LAYERS[:1])
    # G forward; D forward, to its weights, and to its hidden layer: on real and on fake
    discriminator_half = g + 2 * (d + d + d - d1)
    # both forward; D to its input; G to its weights, and to its hidden layer
    generator_half = g + d + d + g + g - g1
    wanted = 2 * N * (critic_steps * discriminator_half + generator_half)
    assert step_flops(little(discriminator_steps=critic_steps), torch.zeros(N, 6)) == wanted
    if critic_steps == 1:
        assert wanted == 2 * N * (4 * g + 8 * d - g1 - 2 * d1)  # as the docstring has it


def test_a_lazy_penalty_counts_its_share():
    none, often, seldom = (
        step_flops(little(regularizers=parts), torch.zeros(N, 6)) for parts in ([], [R1()], [R1(every=4)])
    )
    assert often > none
    assert seldom - none == pytest.approx((often - none) / 4)


@pytest.mark.parametrize(("optimizer", "states"), [(torch.optim.SGD, 0), (torch.optim.Adam, 2)])
def test_an_update_moves_parameters_gradients_and_states_twice(optimizer, states):
    trainer = little(optimizer)
    trainer.step(torch.zeros(N, 6))
    parameters = weights(G_LAYERS) + 8 + 6
    assert update_bytes(trainer.generator, trainer.generator_optimizer) == 2 * 4 * parameters * (2 + states)


@pytest.mark.parametrize("critic_steps", [1, 2])
def test_the_bytes_of_a_step(critic_steps):
    trainer = little(discriminator_steps=critic_steps)
    trainer.step(*[torch.zeros(N, 6)] * critic_steps)
    g, d = weights(G_LAYERS) + 8 + 6, weights(D_LAYERS) + 4 + 1
    updates = 2 * 4 * 4 * (g + critic_steps * d)
    # outputs a sample: G 8 + 6, D 4 + 1; a critic step runs G and twice D, G's half both
    activations = critic_steps * (14 + 2 * 5) + 14 + 5
    images = critic_steps * N * 6
    assert step_bytes(trainer, torch.zeros(N, 6)) == updates + 2 * 4 * N * activations + images
    assert step_bytes(trainer, torch.zeros(N, 6), 2) == updates + 2 * 2 * N * activations + images


@pytest.mark.parametrize("replicas", [None, 3])
def test_the_work_of_a_large_batch_follows_from_small_ones(replicas):
    work = Work.of(little, (6,), batch_size=N, replicas=replicas)
    trainer = little()
    models = replicas or 1
    assert work.flops == models * step_flops(trainer, torch.zeros(N, 6))
    assert work.bytes == models * step_bytes(trainer, torch.zeros(N, 6))


def test_convolutions_count():
    """A forward pass is 2 x output values x weights of one of them; there are passes enough to be above it."""
    G = nn.Sequential(nn.Unflatten(1, (3, 1, 1)), nn.ConvTranspose2d(3, 2, 4, bias=False))
    D = nn.Sequential(nn.Conv2d(2, 1, 4, bias=False), nn.Flatten(0))
    optimizers = {
        "generator_optimizer": torch.optim.SGD(G.parameters(), lr=1e-3),
        "discriminator_optimizer": torch.optim.SGD(D.parameters(), lr=1e-3),
    }
    trainer = AdversarialTrainer(G, D, NonSaturating(), latent=Normal(3), execution="eager", **optimizers)
    g, d = 3 * 2 * 16, 2 * 16
    # D is a single layer: forward and to its weights on real and fake, then forward and to its input; so is G
    assert step_flops(trainer, torch.zeros(N, 2, 4, 4)) == 2 * N * (g + 2 * 2 * d + g + d + d + g)


def test_a_floor_is_work_over_rate():
    assert arithmetic_floor(Work(10.0, 6.0), 5.0) == 2.0
    assert memory_floor(Work(10.0, 6.0), 3.0) == 2.0


# --- timing ----------------------------------------------------------------------------------------------


def test_contenders_take_turns_and_each_goes_first_in_turn():
    calls = []
    contenders = {name: lambda steps, name=name: calls.append((name, steps)) for name in "abc"}
    seconds = interleaved(contenders, CPU, rounds=4, steps={"a": 1, "b": 2, "c": 3})
    assert "".join(name for name, _ in calls) == "abc" + "bca" + "cab" + "abc"
    assert set(calls) == {("a", 1), ("b", 2), ("c", 3)}
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    assert order(["a"], 5) == ["a"]


def test_a_contender_may_measure_its_own_seconds():
    assert interleaved({"own": lambda steps: 8.0}, CPU, rounds=2, steps={"own": 4}) == {"own": [2.0, 2.0]}


def test_ratios_are_taken_round_by_round():
    # the second round was twice as slow for both
    assert ratios([3.0, 6.0], [1.0, 2.0]) == [3.0, 3.0]
    assert ratios([3.0, 6.0], [1.0, 2.0], work=8) == [24.0, 24.0]


# --- rows ------------------------------------------------------------------------------------------------


def test_a_gpu_has_every_batch_size_precision_and_execution():
    vanilla = [row for row in cuda_rows() if row.what == "vanilla_mnist"]
    assert len(vanilla) == 3 * 3 * 4
    assert {row.what for row in cuda_rows()} >= {
        "vanilla_mnist, 64 replicas",
        "dcgan_mnist",
        "R1",
        "R1 every 16 steps",
        "WGAN-GP, 5 critic steps",
    }


def test_names_are_different():
    for rows in (cuda_rows(), cpu_rows()):
        assert len({row.name for row in rows}) == len(rows)


def test_a_cpu_has_no_rows_that_need_a_gpu():
    assert not any("cuda" in row.execution or row.precision == "tf32" for row in cpu_rows())


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_rows_that_a_goal_depends_on_come_first(device):
    reach = [row.reach for row in rows_for(device, fast=False)]
    assert reach == sorted(reach, reverse=True)


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_rows_are_in_the_order_of_the_table(device):
    run = report([], device)
    for row in reversed(rows_for(device, fast=False)):
        run.add(measured(row))
    assert [one.name for one in run.rows] == [row.name for row in all_rows(device)]


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_the_short_run_is_short(device):
    rows = rows_for(device, fast=True)
    assert 0 < len(rows) <= 6
    assert all(row.batch_size == 128 for row in rows)


@pytest.mark.parametrize(
    "row",
    [
        Row(8, "float32", "eager"),
        Row(8, "float32", "eager", penalty="r1", penalty_every=2),
        Row(
            8,
            "float32",
            "eager",
            loss="wasserstein",
            penalty="wasserstein_gradient_penalty",
            discriminator_steps=2,
        ),
    ],
    ids=lambda row: row.what,
)
def test_the_script_computes_what_gankit_computes(row):
    """From the same weights, on the same batches and noise, both come to the same weights, but for rounding."""
    batches = [torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(i)) for i in range(8)]
    trainer, networks = row.trainer(CPU), Networks(row, CPU)
    noise = torch.Generator().set_state(trainer.noise.get_state())
    networks.latent = lambda count: trainer.latent(count, generator=noise, device=CPU)
    steps = 1 if row.discriminator_steps > 1 else 3
    with pytest.MonkeyPatch.context() as patch:
        # a penalty's own noise comes from the same generator
        draw = torch.rand
        patch.setattr("benchmarks.scripts.torch.rand", lambda *shape, device: draw(*shape, generator=noise))
        tutorial(row, networks, iter(batches))(steps)
    for i in range(steps):
        first = i * row.discriminator_steps
        trainer.step(*batches[first : first + row.discriminator_steps])
    theirs, ours = networks.discriminator.state_dict(), trainer.discriminator.network.state_dict()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=5e-5)


# --- tables ----------------------------------------------------------------------------------------------


def measured(row, ours=(1e-3, 2e-3, 3e-3), **changes):
    seconds = {GANKIT: list(ours), TUTORIAL: [10 * x for x in ours], RESIDENT: [2 * x for x in ours]}
    if row.penalty:
        seconds[VANILLA] = [x / 8 for x in ours]
    found = Measured(
        row=dataclasses.asdict(row),
        name=row.name,
        images=row.images,
        seconds=seconds,
        steps=dict.fromkeys(seconds, 7),
        mode=row.execution,
        reason="as requested",
        kernels=None,
        compile_seconds=0.0,
        capture_seconds=0.0,
        peak_memory_bytes=2**20,
        work=Work(1e9, 1e6),
    )
    return dataclasses.replace(found, **changes)


def report(rows, device=CPU, **changes):
    peaks = Peaks(device, dict.fromkeys(("float32", "tf32", "bfloat16"), 1000000000000.0), 1e9)
    return Report(device, "2026-01-31", peaks, rows=rows, **changes)


def line(markdown, start):
    return next(one for one in markdown.splitlines() if one.startswith(f"| {start}"))


def test_a_row_says_how_fast():
    found = line(report([measured(Row(128, "float32", "eager"))]).to_markdown(), "vanilla_mnist, 128, float32, eager")
    cells = [cell.strip() for cell in found.strip("|").split("|")]
    assert cells[1] == "2.00 ms (1.50 ms to 2.50 ms)"
    assert cells[2:4] == ["500", "64,000"]
    assert cells[4:6] == ["10.0 (10.0 to 10.0) x", "2.00 (2.00 to 2.00) x"]


def test_a_row_shows_work_memory_and_floors():
    text = report([measured(Row(128, "float32", "eager"), kernels=9, capture_seconds=2.0)]).to_markdown()
    costs = [one for one in text.splitlines() if "GFLOP |" in one]
    # 1 GFLOP at 1 TFLOP/s is 1 ms, 1 MB at 1 GB/s too, and the step takes 2
    assert costs == ["| vanilla_mnist, 128, float32, eager | 1 GFLOP | 1 MB | 50 % | 50 % | 1.00 MiB | 9 | - | 2.0 s |"]


def test_a_replica_is_a_gan():
    text = report([measured(Row(128, "float32", "eager", replicas=8))]).to_markdown()
    found = line(text, "vanilla_mnist, 8 replicas")
    assert "(4,000 GAN-steps/s)" in found
    assert "80.0 (80.0 to 80.0) x" in found


def test_a_penalty_is_compared_with_a_critic_step_without_it():
    wgan = next(row for row in cpu_rows() if row.loss == "wasserstein")
    # 8 times a vanilla step for 5 critic steps
    assert "| 1.60 (1.60 to 1.60) x |" in report([measured(wgan)]).to_markdown()


def test_a_row_that_fell_back_says_so():
    row = measured(Row(128, "float32", "compile"), mode="eager", reason="because of this")
    assert "fell back to eager: because of this" in report([row]).to_markdown()


def test_goals_are_met_or_not():
    fast = measured(Row(128, "float32", "eager"))
    goals = {goal.what: goal for goal in report([fast], overhead={"by hand": [1.0] * 3, "trainer": [1.03] * 3}).goals()}
    assert goals["batch 128, float32, eager, against tutorial"].met is True
    assert goals["trainer over a loop by hand"].met is False
    assert all(goal.met is None for what, goal in goals.items() if "bfloat16" in what)


def test_goals_of_a_gpu():
    wgan = next(row for row in cuda_rows() if row.loss == "wasserstein")
    rows = [
        measured(Row(128, "tf32", "cuda_graph"), ours=(2e-4, 2e-4, 2e-4)),
        measured(Row(128, "tf32", "compile+cuda_graph"), ours=(2e-4, 2e-4, 2e-4)),
        measured(Row(128, "tf32", "cuda_graph", replicas=64), ours=(2e-3, 2e-3, 2e-3)),
        measured(wgan),
    ]
    goals = {goal.what: goal for goal in report(rows, CUDA).goals()}
    assert goals["batch 128, tf32, cuda_graph: a step"].met is True
    assert goals["batch 128, tf32, compile+cuda_graph: a step"].met is False
    assert goals["batch 128, tf32, cuda_graph, against tutorial"].met is False
    assert goals["batch 128, tf32, cuda_graph, against torchgan"].met is None
    assert goals["64 replicas, batch 128, tf32"].measured == "32,000 GAN-steps/s"
    # 8 times a vanilla step for 5 critic steps
    assert goals["WGAN-GP over vanilla, a critic step"].measured == "1.60 (1.60 to 1.60) x"


def test_rows_under_two_policies_of_waiting_are_both_published_the_default_first(tmp_path):
    row = Row(128, "float32", "eager")
    run = report([])
    for policy, ours in ((PASSIVE, (2e-3, 4e-3, 6e-3)), (DEFAULT, (1e-3, 2e-3, 3e-3))):
        run.add(measured(row, ours, wait_policy=policy))
    text = run.to_markdown()
    assert "| waiting threads | default, then PASSIVE |" in text
    first, second = text.split("## Times with `OMP_WAIT_POLICY=PASSIVE`")
    assert line(first, row.name).startswith(f"| {row.name} | 2.00 ms (1.50 ms to 2.50 ms) | 500 |")
    assert "4.00 ms" not in first.split("## Times of the scripts")[0]
    wanted = [row.name, "2.00 ms (1.50 ms to 2.50 ms)", "4.00 ms (3.00 ms to 5.00 ms)", "2.00 x"]
    assert [cell.strip() for cell in line(second, row.name).strip("|").split("|")][:4] == wanted
    written = json.loads(run.write(tmp_path).with_suffix(".json").read_text(encoding="utf-8"))
    assert [one["wait_policy"] for one in written["rows"]] == [DEFAULT, PASSIVE]
    assert len(run.goals()) == len(report([measured(row)]).goals())


def test_rows_under_the_policy_of_one_process_have_no_second_table():
    text = report([measured(Row(128, "float32", "eager"), wait_policy=PASSIVE)]).to_markdown()
    assert "| waiting threads | PASSIVE |" in text
    assert "## Times with" not in text


def test_the_full_run_on_a_cpu_measures_under_both_policies():
    assert policies_for(CPU, fast=False) == [DEFAULT, PASSIVE]
    assert policies_for(CPU, fast=True) == policies_for(CUDA, fast=False) == [None]


def test_a_row_is_measured_in_a_process_with_its_policy():
    row, peaks = Row(8, "float32", "eager"), Peaks(CPU)
    found = measure_under(PASSIVE, row, CPU, Effort(2, 1, 1e-3, 1e3), peaks)
    assert found.wait_policy == PASSIVE
    assert found.row == dataclasses.asdict(row)
    assert {name: len(values) for name, values in found.seconds.items()} == dict.fromkeys(found.seconds, 2)
    assert found.work.flops > 0
    assert peaks.flops["float32"] > 0
    assert peaks.copied > 0


def test_a_row_that_is_too_slow_in_another_process_says_so(monkeypatch):
    request = {"row": dataclasses.asdict(Row(8, "float32", "eager")), "device": "cpu"}
    answer = answer_to(request | {"effort": dataclasses.asdict(Effort(2, 1, 1e-3, 0.0))})
    assert "the row would take about" in answer["too_slow"]
    done = subprocess.CompletedProcess([], 0, stdout=json.dumps(answer))
    monkeypatch.setattr("benchmarks.policies.subprocess.run", lambda *args, **options: done)
    with pytest.raises(TooSlowError, match="the row would take about"):
        measure_under(DEFAULT, Row(8, "float32", "eager"), CPU, Effort(2, 1, 1e-3, 0.0), Peaks(CPU))


def test_both_files_are_written_and_nothing_else(tmp_path):
    run = report([measured(Row(128, "float32", "eager"))], left_out={"that": "for | this"})
    path = run.write(tmp_path / "results")
    assert path.name.endswith("-2026-01-31.md")
    assert sorted(one.suffix for one in path.parent.iterdir()) == [".json", ".md"]
    assert path.read_text(encoding="utf-8") == run.to_markdown()
    written = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert written["rows"][0]["seconds"][GANKIT] == [1e-3, 2e-3, 3e-3]
    assert written["left_out"] == {"that": "for | this"}
    assert r"for \| this" in path.read_text(encoding="utf-8")
    assert written["versions"].keys() == {"Python", "torch", "gankit"}


# --- what saving costs -----------------------------------------------------------------------------------


def test_the_time_lost_to_checkpoints_is_taken_block_by_block():
    seconds = {"without": [0.1, 0.2, 0.1], "with": [0.11, 0.22, 0.11]}
    found = Saving(100, 100, seconds, snapshot_seconds=[0.5] * 3, write_seconds=[1.0] * 3, checkpoint_bytes=2**21)
    assert found.lost == pytest.approx([0.1] * 3)
    assert found.lost_in_snapshots == pytest.approx([0.05] * 3)
    text = found.to_markdown()
    assert "| time lost | 10.00 % (10.00 % to 10.00 %) | block by block |" in text
    assert "| one save, in the training thread | 500 ms (500 ms to 500 ms) | 3 saves |" in text
    assert "| a checkpoint | 2.0 MiB | all of its files |" in text


def test_the_command_writes_what_it_measured(tmp_path, capsys):
    out = tmp_path / "made" / "saving.json"
    few = ["--rounds", "2", "--steps", "1", "--every-steps", "1", "--saves", "2"]
    assert saving.main(["--device", "cpu", *few, "--folder", str(tmp_path), "--out", str(out)]) == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert {name: len(values) for name, values in written["seconds"].items()} == {"without": 2, "with": 2}
    assert len(written["snapshot_seconds"]) == len(written["write_seconds"]) == 2
    assert written["checkpoint_bytes"] > 10**6
    assert written["versions"].keys() == {"Python", "torch", "gankit"}
    assert "| time lost |" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


# --- seconds to all modes of StackedMNIST ----------------------------------------------------------------


def test_a_seed_is_trained_until_it_has_all_modes(monkeypatch):
    small = {"generator": Spec("dcgan", hidden_dim=1), "discriminator": Spec("dcgan", hidden_dim=1), "batch_size": 4}
    preset = PRESETS.get("stacked_mnist").replace(**small)
    found = iter([(999, 0.01), (1000, 0.09), (1000, 0.08), (1000, 0.01)])
    monkeypatch.setattr(stacked_mnist, "stacked_mnist_modes", lambda x: StackedMnistModes(*next(found), len(x)))
    course = stacked_mnist.measure(preset, CPU, 0, every_steps=1, steps=9, samples=5, root=None)
    assert (course.steps, course.modes, course.kl) == ([1, 2, 3], [999, 1000, 1000], [0.01, 0.09, 0.08])
    assert course.seconds == sorted(course.seconds)
    text = stacked_mnist.to_markdown([course, dataclasses.replace(course, modes=[998])])
    assert "1 of 2 seeds have 1,000 modes and a reverse KL of at most 0.08; seconds: " in text


def test_the_command_for_stacked_mnist_writes_its_courses(tmp_path, capsys):
    out = tmp_path / "stacked.json"
    few = ["--seeds", "1", "--steps", "1", "--samples", "3"]
    assert stacked_mnist.main(["--device", "cpu", *few, "--out", str(out)]) == 0
    (course,) = json.loads(out.read_text(encoding="utf-8"))["courses"]
    assert (course["seed"], course["steps"]) == (0, [1])
    assert 1 <= course["modes"][0] <= 3
    assert "0 of 1 seeds" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_the_command_for_stacked_mnist_says_so(capsys):
    assert stacked_mnist.main([]) == 1
    assert "there is no GPU here; --device cpu" in capsys.readouterr().out


def test_a_short_run_has_a_name_of_its_own():
    assert report([], fast=True).stem.endswith("-2026-01-31-fast")


# --- several processes -----------------------------------------------------------------------------------


def test_a_ring_sends_each_part_but_its_own_twice():
    assert [bytes_sent(900, ranks) for ranks in (1, 2, 3)] == [0, 900, 1200]


def measured_on_ranks():
    return measure("ring", Ranks.present(), CPU, rounds=3, seconds=0.01)


def test_the_cost_of_ranks_is_that_of_the_slowest_one():
    row, _ = on_ranks(2, measured_on_ranks)
    assert [len(row["seconds"][kind]) for kind in ("alone", "apart", "together")] == [3, 3, 3]
    assert min(min(times) for times in row["seconds"].values()) > 0
    trainer = ring(device=CPU)
    weights = sum(p.numel() for n in (trainer.generator, trainer.discriminator) for p in n.parameters())
    buffers = sum(b.numel() for b in trainer.generator.buffers() if b.is_floating_point())
    assert 4 * (weights + 2 * buffers) < row["bytes_exchanged"] < 4 * (weights + 2 * buffers) + 100
    fixed = row | {"seconds": {"alone": [1.0] * 3, "apart": [2.0] * 3, "together": [4.0] * 3}}
    line = ranks_report({"ring": fixed}, 2).splitlines()[-1]
    efficiency, machine, exchange = line.split(" | ")[3:6]
    assert [one.split()[0] for one in (efficiency, machine, exchange)] == ["0.25", "0.50", "0.50"]


# --- two checkouts ---------------------------------------------------------------------------------------


def test_the_ratio_of_two_checkouts_is_the_median_round_by_round():
    # a machine that slows down in the course of the rounds slows both
    old = [1.0 + number for number in range(101)]
    new = [0.9 * seconds for seconds in old]
    new[50] *= 100  # one round in which something else ran
    found = ratio_of(old, new)
    assert (found.low, found.median, found.high) == pytest.approx((0.9, 0.9, 0.9))


def test_the_interval_of_a_ratio_is_the_bootstraps():
    random = torch.Generator().manual_seed(3)
    new = torch.exp(0.1 * torch.randn(100, generator=random, dtype=torch.float64)).tolist()
    found = ratio_of([1.0] * 100, new)
    assert found.low < found.median < found.high
    assert found.median == pytest.approx(sum(sorted(new)[49:51]) / 2)
    # the median of normals has a standard error of 1.25 times that of their mean: 2 x 1.96 x 1.25 x 0.1 / 10
    assert found.high - found.low == pytest.approx(0.049, rel=0.4)
    assert found == ratio_of([1.0] * 100, new)
    assert ratio_of([1.0] * 100, new, seed=1) != found


def test_intervals_hold_the_true_ratio_as_often_as_they_say():
    random = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(200):
        new = torch.exp(0.05 * torch.randn(40, generator=random, dtype=torch.float64)).tolist()
        found = ratio_of([1.0] * 40, new, resamples=500)
        held += found.low <= 1.0 <= found.high
    assert 180 <= held <= 199


def test_differing_operators_are_listed_step_by_step():
    same = {"aten.mul": 2}
    assert differences([same, {"aten.add": 1}, {}], [same, {"aten.add": 3}, {"aten.item": 1}]) == [
        ("step 2", "aten.add", 1, 3),
        ("the end", "aten.item", 0, 1),
    ]
    assert differences([same, {}], [dict(same), {}]) == []


def test_what_is_counted_has_every_penalty_and_every_loss():
    text = json.dumps(COUNTED)
    for name in [*REGULARIZERS.names(), *LOSSES.names()]:
        assert f'"{name}"' in text, name
    for option in OPTION_NAMES:
        # BatchNorm of one process has nothing to synchronize, and the ramp of an average changes a number
        assert f'"{option}"' in text or option in ("synchronize_batch_norm", "averaging_ramp"), option


def test_two_checkouts_are_timed_and_their_operators_counted(tmp_path, capsys, monkeypatch):
    """One is this checkout, the other a copy that adds 0 to each latent and has no preset `dcgan_mnist`."""
    monkeypatch.setattr(checkouts, "TIMED", {"ring": {"preset": "ring", "batch_size": 8}})
    new = tmp_path / "new"
    shutil.copytree(Path(gankit.__file__).parent, new / "gankit", ignore=shutil.ignore_patterns("__pycache__"))
    with (new / "gankit" / "latents.py").open("a", encoding="utf-8") as file:
        file.write("\n_call = Normal.__call__\nNormal.__call__ = lambda *args, **kwargs: _call(*args, **kwargs) + 0\n")
    dcgan = new / "gankit" / "presets" / "dcgan.py"
    dcgan.write_text(dcgan.read_text(encoding="utf-8").replace('name="dcgan_mnist"', 'name="dcgan"'), encoding="utf-8")
    few = ["--rounds", "2", "--launches", "1", "--block-seconds", "0.001", "--steps", "2"]
    out = tmp_path / "made" / "checkouts.json"
    old = str(Path(gankit.__file__).parents[1])
    assert checkouts.main([old, str(new), *few, "--count", "eager", "dcgan_mnist", "--out", str(out)]) == 1
    written = json.loads(out.read_text(encoding="utf-8"))
    for found in written["seconds"].values():
        assert {which: len(values) for which, values in found.items()} == {"old": 2, "new": 2}
        assert min(found["old"] + found["new"]) > 0
    assert written["versions"]["old"]["file"].startswith(old)
    assert written["versions"]["new"]["file"].startswith(str(new))
    # z is drawn once in each half
    assert list(written["differences"]) == ["eager"]
    different = written["differences"]["eager"]
    assert [(when, operator) for when, operator, _, _ in different] == [
        ("step 1", "aten.add.Tensor"),
        ("step 2", "aten.add.Tensor"),
    ]
    assert [after - before for _, _, before, after in different] == [2, 2]
    assert written["operators"]["eager"]["new"] - written["operators"]["eager"]["old"] == 4
    assert list(written["not_counted"]) == ["dcgan_mnist, new"]
    said = capsys.readouterr().out
    assert "| step 1 | aten.add.Tensor |" in said
    assert "not counted: dcgan_mnist, new" in said


def test_a_checkout_without_gankit_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="a checkout must hold gankit/__init__.py, got "):
        checkouts.main([str(tmp_path), str(tmp_path)])


def test_an_unknown_training_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        checkouts.main([str(tmp_path), str(tmp_path), "--count", "eager", "nothing"])
    assert "not nothing" in capsys.readouterr().err
