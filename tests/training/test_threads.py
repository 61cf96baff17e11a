"""Threads that construct trainers, and one that samples while another trains."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from gankit.losses import NonSaturating
from gankit.presets import ring
from gankit.seeds import default_generator_kept
from tests.training.steps import make, make_batches


class SlowLinear(nn.Linear):
    """A layer during whose initialisation other threads get their turn."""

    def reset_parameters(self):
        super().reset_parameters()
        time.sleep(0.002)


def generator(**options):
    return nn.Sequential(SlowLinear(258, 4), *[SlowLinear(4, 4) for _ in range(4)], SlowLinear(4, 2))


def discriminator(**options):
    return nn.Sequential(SlowLinear(2, 4), SlowLinear(4, 1), nn.Flatten(0))


def weights(_=None):
    trainer = ring(device="cpu", seed=3, generator=generator, discriminator=discriminator)
    return torch.cat([p.detach().flatten() for n in (trainer.generator, trainer.discriminator) for p in n.parameters()])


def test_trainers_of_one_seed_that_are_constructed_in_four_threads_have_equal_weights():
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(weights, range(8)))
    alone = weights()
    assert all(torch.equal(one, alone) for one in found)
    assert torch.equal(torch.get_rng_state(), before)


def test_blocks_that_keep_the_default_generator_take_turns():
    inside, order = threading.Event(), []

    def first():
        with default_generator_kept(seed=1):
            inside.set()
            time.sleep(0.02)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with default_generator_kept(seed=2):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_samples_of_another_thread_wait_for_the_end_of_the_step():
    sampled, seen = [], []

    class Samples(NonSaturating):
        """A loss that starts a thread which samples, in the middle of a step."""

        def generator_loss(self, fake_logits, real_logits=None):
            thread = threading.Thread(target=lambda: sampled.append(trainer.sample(4, seed=1)))
            thread.start()
            thread.join(0.05)
            seen.append(bool(sampled))
            threads.append(thread)
            return super().generator_loss(fake_logits)

    threads, trainer = [], make(loss=Samples(), averaging_decay=0.9)
    trainer.step(make_batches()[0])
    threads[0].join()
    assert seen == [False]
    assert torch.equal(sampled[0], trainer.sample(4, seed=1))
    assert trainer.generator.training


def test_a_part_may_sample_in_the_middle_of_its_own_step():
    class Samples(NonSaturating):
        def generator_loss(self, fake_logits, real_logits=None):
            trainer.sample(2)
            return super().generator_loss(fake_logits)

    trainer = make(loss=Samples(), averaging_decay=0.9)
    assert trainer.fit(make_batches(), steps=2).steps_done == 2
