"""`Adversary` gives the terms of a loop by hand, leaves D alone in the generator's half, and begins when it should."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gankit import LossSchedule, Spec
from gankit.adversary import Adversary
from gankit.answers import Answer
from gankit.errors import BadArgumentsError, BadValueError, GankitWarning, ShapeError, UnknownNameError
from gankit.losses import LOSSES, Hinge
from gankit.regularizers import R1, FeatureMatching, Lecam, WeightClipping


class Critic(nn.Module):
    """Judges patches, and returns its hidden layer as features."""

    def __init__(self, features: bool = False, channels: int = 3) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 1, 2)
        self.returns_features = features

    def forward(self, x, condition=None):
        if condition is not None:
            x = torch.cat([x, condition["picture"]], 1)
        hidden = torch.tanh(self.first(x))
        logits = self.last(hidden)
        return Answer(heads=(logits,), features=[hidden]) if self.returns_features else logits


class Heads(nn.Module):
    """Judges positions with one head, and samples with another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 1, 3), nn.Linear(3 * 36, 1)

    def forward(self, x):
        return Answer(heads=(self.first(x).squeeze(1), self.second(x.flatten(1)).squeeze(1)))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def pictures(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 6, 6, dtype=torch.float64)


def gradients(network: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_both_halves_equal_a_loop_by_hand():
    D = Critic(features=True).double()
    by_hand = copy.deepcopy(D)
    adversary = Adversary(
        D,
        loss="hinge",
        regularizers=[Spec("r1", weight=2.0, every=16), "feature_matching"],
        weight=0.3,
        discriminator_weight=0.5,
    )
    real, fake = pictures(), pictures().requires_grad_()

    adversary.generator_loss(fake=fake, real=real, step=16).backward()
    ours = fake.grad.clone()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in D.parameters())
    other = fake.detach().clone().requires_grad_()
    hidden, hidden_real = (torch.tanh(by_hand.first(x)) for x in (other, real))
    matching = (hidden.flatten(1).mean(0) - hidden_real.flatten(1).mean(0).detach()).square().sum()
    (-0.3 * by_hand.last(hidden).mean() + matching).backward()
    torch.testing.assert_close(ours, other.grad, rtol=1e-12, atol=1e-12)

    adversary.discriminator_loss(real=real, fake=fake, step=16).backward()
    by_hand.zero_grad()
    x = real.clone().requires_grad_()
    judged = by_hand(x).heads[0]
    loss = F.relu(1 - judged).mean() + F.relu(1 + by_hand(fake.detach()).heads[0]).mean()
    (gradient,) = torch.autograd.grad(judged.mean((1, 2, 3)).sum(), x, create_graph=True)
    penalty = 2.0 / 2 * gradient.square().sum((1, 2, 3)).mean()
    (0.5 * loss + 16 * penalty).backward()
    for one, theirs in zip(gradients(D), gradients(by_hand), strict=True):
        torch.testing.assert_close(one, theirs, rtol=1e-12, atol=1e-12)
    metrics = adversary.metrics
    assert metrics["discriminator_loss"].item() == pytest.approx(loss.item())
    assert metrics["penalty/r1"].item() == pytest.approx(penalty.item())
    assert metrics["penalty/feature_matching"].item() == pytest.approx(matching.item())
    assert metrics["real_score"].item() == pytest.approx(judged.mean().item())
    assert {value.ndim for value in metrics.values()} == {0}
    assert not any(value.requires_grad for value in metrics.values())
    assert torch.equal(fake.grad, ours)  # D's half has detached the fakes


@pytest.mark.parametrize("loss", LOSSES.names())
def test_every_loss_has_both_halves(loss):
    D = Heads().double()
    adversary = Adversary(D, loss=loss)
    real, fake = pictures(), pictures().requires_grad_()
    adversary.discriminator_loss(real=real, fake=fake).backward()
    assert any(one.abs().sum() > 0 for one in gradients(D))
    before = gradients(D)
    adversary.generator_loss(fake=fake, real=real).backward()
    assert all(map(torch.equal, before, gradients(D)))
    assert fake.grad.abs().sum() > 0


def test_heads_are_added_by_their_weights_and_reported_one_by_one():
    D = Heads().double()
    adversary = Adversary(D, loss=Hinge(), head_weights=[1.0, 0.25], weight=2.0)
    real, fake = pictures(), pictures()
    first, second = D(fake).heads
    total = adversary.generator_loss(fake=fake)
    assert total.item() == pytest.approx(-2 * (first.mean() + 0.25 * second.mean()).item())
    assert adversary.metrics["generator_loss"].item() == pytest.approx(total.item() / 2)
    assert adversary.metrics["generator_loss/head1"].item() == pytest.approx(-second.mean().item())
    terms = adversary.generator_terms(fake=fake)
    assert [term.item() for term in terms.values()] == pytest.approx([-first.mean().item(), -second.mean().item()])
    assert list(terms) == ["generator_loss/head0", "generator_loss/head1"]
    assert list(adversary.discriminator_terms(real=real, fake=fake)) == [
        "discriminator_loss/head0",
        "discriminator_loss/head1",
    ]
    wrong = Adversary(D, head_weights=[1.0])
    with pytest.raises(BadValueError, match="head_weights must be one for each of the discriminator's 2 heads, got 1"):
        wrong.generator_loss(fake=fake)


# --- starts ----------------------------------------------------------------------------------------------


def test_a_half_that_is_not_due_is_zero_and_its_backward_changes_nothing():
    D = Critic().double()
    adversary = Adversary(D, generator_start=10, discriminator_start=8, discriminator_every=2)
    real, fake = pictures(), pictures().requires_grad_()
    assert [adversary.is_due("discriminator", step) for step in range(7, 12)] == [False, True, False, True, False]
    assert [adversary.is_due("generator", step) for step in (9, 10)] == [False, True]
    early = adversary.generator_loss(fake=fake, step=9)
    assert early.item() == 0
    assert not early.requires_grad
    (fake.sum() + early).backward()
    loss = adversary.discriminator_loss(real=real, fake=fake, step=9)
    assert loss.item() == 0
    loss.backward()
    assert all(parameter.grad is None for parameter in D.parameters())
    assert adversary.generator_terms(fake=fake, step=9) == {}
    assert adversary.discriminator_terms(real=real, fake=fake, step=9) == {}
    assert adversary.metrics == {}


def test_the_term_grows_to_its_weight():
    D = Critic().double()
    adversary = Adversary(D, weight=3.0, generator_start=10, generator_ramp_steps=4, regularizers=[FeatureMatching()])
    D.returns_features = True
    real, fake = pictures(), pictures()
    full = Adversary(D, weight=3.0, regularizers=[FeatureMatching()]).generator_loss(fake=fake, real=real, step=0)
    shares = [(adversary.generator_loss(fake=fake, real=real, step=step) / full).item() for step in (9, 10, 11, 13, 14)]
    assert shares == pytest.approx([0, 0.25, 0.5, 1, 1])


@pytest.mark.parametrize(("start", "first"), [(0, 0), (400, 0), (1000, 0), (20_000, 19_000)])
def test_d_begins_before_the_term_by_default(start, first):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Adversary(Critic(), generator_start=start).starts.first("discriminator") == first


def test_a_term_that_would_begin_with_an_untrained_d_is_warned_about():
    with pytest.warns(GankitWarning, match="at step 5000 with a discriminator that was never trained.*=4000"):
        Adversary(Critic(), generator_start=5000, discriminator_start=5000)


@pytest.mark.parametrize(
    "options",
    [{"generator_start": 5}, {"regularizers": [R1(every=2)]}, {"loss": LossSchedule({0: "hinge", 9: "minimax"})}],
)
def test_a_step_that_something_depends_on_cannot_be_left_out(options):
    adversary = Adversary(Critic().double(), **options)
    with pytest.raises(BadArgumentsError, match="step must be the number of the step, counted from 0, .* got None"):
        adversary.discriminator_loss(real=pictures(), fake=pictures())


# --- what D sees -----------------------------------------------------------------------------------------


def test_conditions_of_any_structure_are_passed_on():
    D = Critic(channels=6).double()
    real, fake, edges, others = (pictures() for _ in range(4))
    adversary = Adversary(D, loss="least_squares")
    loss = adversary.discriminator_loss(
        real=real, fake=fake, condition={"picture": edges}, fake_condition={"picture": others}
    )
    judged = [D(x, {"picture": picture}) for x, picture in ((real, edges), (fake, others))]
    expected = ((judged[0] - 1) ** 2).mean() + (judged[1] ** 2).mean()
    assert loss.item() == pytest.approx(
        LOSSES.build("least_squares").discriminator_loss(judged[0].flatten(), judged[1].flatten()).mean().item()
    )
    assert expected.item() > 0


def test_a_window_is_the_same_for_real_samples_fakes_and_pictures_of_the_condition():
    seen = []

    class Seeing(nn.Module):
        def forward(self, x, condition):
            seen.append((x, condition))
            return x.mean((1, 2, 3))

    adversary = Adversary(Seeing(), crop=(3, 2))
    real, label = torch.arange(36.0).view(1, 1, 6, 6), torch.tensor([4])
    for _ in range(20):
        adversary.discriminator_loss(real=real, fake=-real, condition=(real * 2, label))
    assert {tuple(x.shape) for x, _ in seen} == {(1, 1, 3, 2)}
    assert all(torch.equal(one[0], -other[0]) for one, other in zip(seen[::2], seen[1::2], strict=True))
    assert all(torch.equal(picture, 2 * x) and kept is label for x, (picture, kept) in seen[::2])
    assert len({x[0, 0, 0, 0].item() for x, _ in seen[::2]}) > 3
    with pytest.raises(ShapeError, match=r"crop must be at most the size \(6, 6\) of the samples, got \(7, 2\)"):
        Adversary(Seeing(), crop=(7, 2)).generator_loss(fake=real, condition=(real, label))


def test_an_augmentation_changes_both_sides_and_passes_gradients():
    adversary = Adversary(
        nn.Sequential(nn.Flatten(), nn.Linear(108, 1)).double(), augmentation=lambda x, *, generator: 2 * x
    )
    real, fake = pictures(), pictures().requires_grad_()
    D = adversary.discriminator
    loss = adversary.discriminator_loss(real=real, fake=fake)
    assert loss.item() == pytest.approx((F.relu(1 - D(2 * real)).mean() + F.relu(1 + D(2 * fake)).mean()).item())
    adversary.generator_loss(fake=fake).backward()
    torch.testing.assert_close(fake.grad, (-2 * D[1].weight / 4).view(1, 3, 6, 6).expand(4, -1, -1, -1))


def test_answers_of_others_are_read_by_a_function():
    class Foreign(nn.Module):
        def forward(self, x):
            return [x.mean((1, 2)), x.mean((1, 3))], [[x], [x, x]]

    adversary = Adversary(
        Foreign(),
        answer=lambda returned: Answer(heads=tuple(returned[0]), features=returned[1]),
        regularizers=["feature_matching"],
    )
    real, fake = pictures(), pictures()
    adversary.generator_loss(fake=fake, real=real)
    matching = 3 * (real.mean(0) - fake.mean(0)).square().sum()
    assert adversary.metrics["penalty/feature_matching"].item() == pytest.approx(matching.item())


# --- in a training loop ----------------------------------------------------------------------------------


def train(adversary, steps, *, generator_first, fresh=False):
    """Train an autoencoder of one layer, and return its weights and D's."""
    torch.manual_seed(1)
    G, D = nn.Conv2d(3, 3, 1).double(), adversary.discriminator
    of_G, of_D = torch.optim.Adam(G.parameters(), 1e-2), torch.optim.Adam(D.parameters(), 1e-2)
    for step in range(steps):
        x = pictures()
        y = G(x)

        def generator_half(y=y, x=x, step=step):
            of_G.zero_grad()
            ((y - x).square().mean() + 0.1 * adversary.generator_loss(fake=y, real=x, step=step)).backward()
            of_G.step()

        def discriminator_half(y=y, x=x, step=step):
            if adversary.is_due("discriminator", step):
                of_D.zero_grad()
                adversary.discriminator_loss(real=x, fake=G(x) if fresh else y, step=step).backward()
                of_D.step()
                adversary.constrain(step=step)

        halves = [generator_half, discriminator_half]
        for half in halves if generator_first else reversed(halves):
            half()
    return [parameter.detach().clone() for network in (G, D) for parameter in network.parameters()]


@pytest.mark.parametrize("generator_first", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
def test_the_halves_may_be_called_in_either_order_with_the_same_fakes_or_fresh_ones(generator_first, fresh):
    D = Critic().double()
    adversary = Adversary(D, regularizers=[R1(weight=0.1, every=2), WeightClipping(0.05)])
    weights = train(adversary, 4, generator_first=generator_first, fresh=fresh)
    assert all(one.isfinite().all() for one in weights)
    assert all(parameter.abs().max() <= 0.05 for parameter in D.parameters())


def test_accumulated_gradients_equal_those_of_the_whole_batch():
    D = Critic().double()
    adversary = Adversary(D, loss="least_squares", regularizers=[R1(weight=1.0)])
    real, fake = pictures(6), pictures(6)
    adversary.discriminator_loss(real=real, fake=fake).backward()
    whole = gradients(D)
    D.zero_grad()
    for part in range(3):
        rows = slice(2 * part, 2 * part + 2)
        (adversary.discriminator_loss(real=real[rows], fake=fake[rows]) / 3).backward()
    for one, other in zip(whole, gradients(D), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_several_adversaries_name_their_metrics():
    first, second = Adversary(Critic().double(), name="patch"), Adversary(Heads().double(), name="whole", weight=0.5)
    fake = pictures().requires_grad_()
    (first.generator_loss(fake=fake) + second.generator_loss(fake=fake)).backward()
    assert {"patch/generator_loss", "whole/generator_loss", "whole/generator_loss/head1"} <= {
        *first.metrics,
        *second.metrics,
    }


def test_without_freezing_the_generators_half_leaves_gradients_in_d():
    D = Critic().double()
    Adversary(D, freeze=False).generator_loss(fake=pictures().requires_grad_()).backward()
    assert all(parameter.grad is not None for parameter in D.parameters())


def test_losses_are_in_float32_under_autocast():
    adversary = Adversary(Critic())
    with torch.autocast("cpu", torch.bfloat16):
        loss = adversary.generator_loss(fake=torch.randn(2, 3, 6, 6))
        other = adversary.discriminator_loss(real=torch.randn(2, 3, 6, 6), fake=torch.randn(2, 3, 6, 6))
    assert loss.dtype == other.dtype == torch.float32


# --- the state -------------------------------------------------------------------------------------------


def test_d_is_saved_once_whoever_owns_it():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.discriminator = Critic()
            self.adversary = Adversary(self.discriminator, regularizers=["lecam"])

    model = Model()
    keys = list(model.state_dict())
    assert [key for key in keys if "first.weight" in key] == ["discriminator.first.weight"]
    assert [key for key in keys if "real_average" in key] == ["adversary.parts.lecam.real_average"]
    assert list(model.adversary.parameters()) == []
    owner = Adversary(Critic(), owns_discriminator=True)
    assert "discriminator.first.weight" in owner.state_dict()
    by_name = Adversary(Spec("mlp", sample_shape=(2,), widths=[4]))
    assert sum(one.numel() for one in by_name.parameters()) == 17
    assert all(one is two for one, two in zip(owner.parameters(), owner.discriminator.parameters(), strict=True))


def test_a_state_continues_exactly():
    def start():
        torch.manual_seed(2)
        return Adversary(Critic().double(), regularizers=[Lecam(weight=0.1)], owns_discriminator=True)

    real, fake = pictures(), pictures()
    first = start()
    for _ in range(3):
        first.discriminator_loss(real=real, fake=fake)
    second = start()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.discriminator_loss(real=real, fake=fake), second.discriminator_loss(real=real, fake=fake))
    copied = copy.deepcopy(first)
    assert copied.discriminator is not first.discriminator


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"loss": "hing"}, UnknownNameError, "hing.*Did you mean 'hinge'"),
        ({"loss": 3}, BadArgumentsError, "loss must be an object with discriminator_loss"),
        ({"regularizers": "r1"}, BadArgumentsError, "regularizers must be a sequence or a mapping by name, got 'r1'"),
        ({"regularizers": ["r1", "r1"]}, BadValueError, "regularizers must have different names, got 'r1' twice"),
        ({"regularizers": ["path_length"]}, BadArgumentsError, "'path_length' needs the latents of G"),
        ({"regularizers": ["mode_seeking"]}, BadArgumentsError, "'mode_seeking' needs the latents of G"),
        ({"weight": float("nan")}, BadValueError, "weight must be finite, got nan"),
        ({"discriminator_weight": -1.0}, BadValueError, "discriminator_weight must be 0 or more"),
        ({"head_weights": [-1.0]}, BadValueError, "head_weights must be 0 or more"),
        ({"generator_start": -1}, BadValueError, "generator_start must be 0 or more"),
        ({"discriminator_every": 0}, BadValueError, "discriminator_every must be above 0"),
        ({"crop": 0}, BadValueError, "crop must be above 0"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(options, error, says):
    with pytest.raises(error, match=says) as caught:
        Adversary(Critic(), **options)
    assert "\n" not in str(caught.value)


def test_wrong_calls_are_refused_in_one_sentence():
    adversary = Adversary(Critic().double(), loss="relativistic")
    with pytest.raises(
        ShapeError, match=r"real and fake must have the same shape, got \(4, 3, 6, 6\) and \(3, 3, 6, 6\)"
    ):
        adversary.discriminator_loss(real=pictures(), fake=pictures(3))
    with pytest.raises(BadArgumentsError, match="real= for this term"):
        adversary.generator_loss(fake=pictures())
    with pytest.raises(BadArgumentsError, match="use generator_loss or discriminator_loss"):
        adversary(pictures())
    with pytest.raises(BadArgumentsError, match="discriminator must be a module, a name or a Spec, got 3"):
        Adversary(3)
    with pytest.raises(BadValueError, match="half must be 'discriminator' or 'generator', got 'both'"):
        adversary.is_due("both", 3)
