"""`Objectives`: which terms each half of a step has, and what is done after an update."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from gankit.answers import check_head_weights, widened
from gankit.context import StepContext
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.protocols import (
    AdversarialLoss,
    BuildsLosses,
    Constraint,
    GradientInput,
    Half,
    HasLosses,
    Regularizer,
    ScheduledLoss,
    State,
    Stateful,
    has_log_odds,
    part_name,
)
from gankit.training.step.constants import Same, description
from gankit.training.step.facts import in_words


class Objectives:
    """The loss, or the schedule of losses, together with the penalties and constraints.

    Everything that depends on the step takes its number as an argument, since a captured step must not read it from the
    context.

    Args:
        loss: An `AdversarialLoss`; a `LossSchedule`, from which losses are built; or any object with `loss_at(step)`.
        regularizers: Penalties and constraints. A mapping gives their names; in a sequence, each is named after its
            class.

    Attributes:
        regularizers: The penalties and constraints by name.

    Raises:
        BadArgumentsError: for a loss or a regularizer without the members that it must have.
        BadValueError: for two regularizers of one name.

    Example:
        >>> from gankit.losses import NonSaturating
        >>> from gankit.regularizers import R1
        >>> objectives = Objectives(NonSaturating(), [R1(every=16)])
        >>> [objectives.gradient_inputs("discriminator", step) for step in (16, 17)]
        [{'real'}, set()]
    """

    def __init__(
        self,
        loss: AdversarialLoss | ScheduledLoss | BuildsLosses,
        regularizers: Mapping[str, Regularizer | Constraint] | Sequence[Regularizer | Constraint] = (),
    ) -> None:
        if isinstance(loss, BuildsLosses) and not isinstance(loss, AdversarialLoss):
            loss = loss.build()  # new losses, so that two trainings with one preset share no state
        if not isinstance(loss, (AdversarialLoss, ScheduledLoss)):
            raise BadArgumentsError(
                "loss must be an object with discriminator_loss, generator_loss and needs_real_logits "
                f"(names are for presets and LOSSES.build), got {loss!r}"
            )
        self._schedule: ScheduledLoss | None = loss if isinstance(loss, ScheduledLoss) else None
        self._fixed_loss = cast(AdversarialLoss, loss)
        self.regularizers: dict[str, Regularizer | Constraint] = _by_name(regularizers)
        self._penalties: dict[Half, list[tuple[str, Regularizer]]] = {"discriminator": [], "generator": []}
        self._constraints: list[Constraint] = []
        for name, part in self.regularizers.items():
            if isinstance(part, Regularizer):
                self._penalties[part.half].append((name, part))
            else:
                self._constraints.append(part)
        scheduled = loss.losses if isinstance(loss, HasLosses) else ()
        self._lasting: list[object] = [loss, *scheduled, *self.regularizers.values()]

    def loss_at(self, step: int) -> AdversarialLoss:
        """Return the loss that is used in a step."""
        return self._fixed_loss if self._schedule is None else self._schedule.loss_at(step)

    # --- which parts belong to a step ------------------------------------------------------------------------

    @staticmethod
    def is_due(part: Regularizer | Constraint, step: int) -> bool:
        """Return whether a penalty or a constraint is used in a step: in every `every`-th, from step 0 on."""
        return step % part.every == 0

    def due_penalties(self, half: Half, step: int) -> list[tuple[str, Regularizer]]:
        """Return the names and objects of the penalties that one half has in a step."""
        return [(name, part) for name, part in self._penalties[half] if self.is_due(part, step)]

    def first_uses(self, warmup_steps: int) -> set[int]:
        """Return the steps in which something is used for the first time, if G is trained after `warmup_steps` steps.

        In these steps, optimizers and penalties create their states.

        Example:
            >>> from gankit.losses import Minimax
            >>> from gankit.regularizers import PathLength
            >>> sorted(Objectives(Minimax(), [PathLength(every=4)]).first_uses(6))
            [0, 6, 8]
        """
        first = {0, warmup_steps}
        for part in self.regularizers.values():
            start = warmup_steps if isinstance(part, Regularizer) and part.half == "generator" else 0
            first.add(-(-start // part.every) * part.every)
        return first

    def signature(self, step: int) -> tuple[object, ...]:
        """Return the key of the operations that the objectives consist of in a step: the loss and what is due."""
        due = tuple([name for name, part in self.regularizers.items() if self.is_due(part, step)])
        return self.loss_key(step), due

    def loss_key(self, step: int) -> Hashable:
        """Return the key of the loss of a step: that of the object if it lasts, and otherwise that of its numbers."""
        loss = self.loss_at(step)
        return Same(loss) if self._lasts(loss) else description(loss)

    def constant_parts(self, step: int) -> tuple[list[object], Hashable]:
        """Return the parts whose numbers a compiled or captured step holds, and the key of a loss that is new."""
        loss = self.loss_at(step)
        parts = [part for part in self._lasting if part is not self._schedule]
        if self._lasts(loss):
            return parts, None
        return [*parts, loss] if isinstance(loss, nn.Module) else parts, description(loss)

    def facts(self) -> dict[str, str]:
        """Return the classes and numbers of the loss or the schedule, the penalties and the constraints, by name."""
        losses = {f"loss {index}" if index else "loss": loss for index, loss in enumerate(self._lasting)}
        named = {id(part): f"regularizer {name}" for name, part in self.regularizers.items()}
        return {named.get(id(part), name): in_words(part) for name, part in losses.items()}

    def _lasts(self, loss: object) -> bool:
        return any(loss is one for one in self._lasting)

    # --- what they compute -----------------------------------------------------------------------------------

    def gradient_inputs(self, half: Half, step: int) -> set[GradientInput]:
        """Return what the penalties that are due differentiate with respect to."""
        return {one for _, part in self.due_penalties(half, step) for one in part.gradient_inputs}

    def terms(self, half: Half, context: StepContext, step: int) -> dict[str, Tensor]:
        """Return the terms of one half by name. Their means over the batch are added and minimised.

        A term has one value per sample, `(..., N)`, or one per judgement. The loss of a discriminator with several
        heads has one term for each of them: `generator_loss/head0` and so on.

        Args:
            half: Whose objective it is.
            context: The samples, and D's logits.
            step: The number of the step, counted from 0.
        """
        loss = self.loss_at(step)
        if half == "discriminator":
            pairs = zip(context.heads("real"), context.heads("fake"), strict=True)
            losses = [loss.discriminator_loss(real, fake) for real, fake in pairs]
        else:
            fakes = context.heads("fake")
            # D is frozen in this half, so that D(real) has no graph
            reals = context.heads("real") if loss.needs_real_logits else [None] * len(fakes)
            losses = [loss.generator_loss(fake, real) for fake, real in zip(fakes, reals, strict=True)]
        terms = _by_head(f"{half}_loss", losses)
        for name, part in self.due_penalties(half, step):
            # `every` times as strong in every `every`-th step, so that its mean strength does not depend on `every`
            terms[f"penalty/{name}"] = part(context) * part.every
        return terms

    def without_every(self, results: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return named results in which penalties have the strength of their formula, not `every` times as much.

        Args:
            results: The means of the terms by name.
        """
        factors = {f"penalty/{name}": part.every for name, part in self.regularizers.items() if part.every > 1}
        return {name: value / factors[name] if name in factors else value for name, value in results.items()}

    def scores(self, context: StepContext, step: int) -> dict[str, Tensor]:
        """Return D(x) and D(G(z)) as means over the judgements, and with log-odds the accuracies.

        With several heads, each has scores of its own, such as `real_score/head0`, and the scores under the usual names
        are their means, weighted like the heads.
        """
        reals, fakes = ([one.detach() for one in context.heads(which)] for which in ("real", "fake"))
        values = {"real_score": reals, "fake_score": fakes}
        if has_log_odds(self.loss_at(step)):
            values = {
                "real_score": [one.sigmoid() for one in reals],
                "fake_score": [one.sigmoid() for one in fakes],
                "real_accuracy": [(one > 0).float() for one in reals],
                "fake_accuracy": [(one < 0).float() for one in fakes],
            }
        scores: dict[str, Tensor] = {}
        for name, heads in values.items():
            means = {key: one.mean(-1) for key, one in _by_head(name, heads).items()}
            if len(heads) > 1:
                shares = normalized(context.head_weights, len(heads))
                first, *others = [share * mean for share, mean in zip(shares, means.values(), strict=True)]
                scores[name] = sum(others, first)
            scores |= means
        return scores

    def constrain(self, discriminator: nn.Module, step: int) -> None:
        """Apply the constraints that are due to D, after its update."""
        for part in self._constraints:
            if self.is_due(part, step):
                part.apply(discriminator)

    @property
    def depend_on_step(self) -> bool:
        """Whether there is a schedule, or a part that is not due in every step."""
        return self._schedule is not None or any(part.every > 1 for part in self.regularizers.values())

    # --- what they hold --------------------------------------------------------------------------------------

    def parts(self, step: int) -> list[object]:
        """Return each object once: the loss or the schedule, its losses, the penalties and the constraints."""
        return [*{id(part): part for part in (*self._lasting, self.loss_at(step))}.values()]

    def modules(self, step: int) -> list[nn.Module]:
        """Return those parts that are modules, and therefore have tensors of their own."""
        return [part for part in self.parts(step) if isinstance(part, nn.Module)]

    def named_modules(self) -> dict[str, nn.Module]:
        """Return the parts that last and are modules, by the names of their states."""
        return {name: part for name, part in self._stateful().items() if isinstance(part, nn.Module)}

    def _stateful(self) -> dict[str, Stateful]:
        # as in the metrics, so that a penalty may have any name, even "loss"
        named = {"loss": self._lasting[0], **{f"penalty/{name}": part for name, part in self.regularizers.items()}}
        return {name: part for name, part in named.items() if isinstance(part, Stateful)}

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts that have one, by name."""
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def check_state_dict(self, state: State) -> None:
        """Raise `BadArgumentsError` unless a state has the parts that these objectives have."""
        if state.keys() != self._stateful().keys():
            raise BadArgumentsError(f"state has the parts {sorted(state)}, this trainer has {sorted(self._stateful())}")

    def load_state_dict(self, state: State) -> None:
        """Continue from what `state_dict` returned."""
        self.check_state_dict(state)
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])


def reduce_terms(terms: Mapping[str, Tensor], context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the objective and the means to record: each term's mean over the batch, added, and summed over replicas.

    Terms of heads, such as `generator_loss/head0`, are weighted like the heads, and their sum is recorded as well,
    under the name without the head.

    Args:
        terms: The terms by name, each with one value per sample or one per judgement of a head.
        context: The context that the terms were computed from.

    Returns:
        The objective, 0-d, and the mean of each term, 0-d or `(R,)`, without a graph.

    Raises:
        ShapeError: for a term that has another shape.
        BadValueError: for weights of heads that are not one for each head.

    Example:
        >>> import torch
        >>> context = StepContext(discriminator=nn.Flatten(0), fake=torch.zeros(2, 1))
        >>> reduce_terms({"loss": torch.tensor([1.0, 3.0])}, context)
        (tensor(2.), {'loss': tensor(2.)})
    """
    means = mean_terms(terms, context)
    sums = weighted_sums(means, context)
    first, *others = sums.values()
    total = sum(others, first)
    results = {name: mean.detach() for name, mean in (sums | means).items()}
    return total.sum() if total.ndim else total, results


def mean_terms(terms: Mapping[str, Tensor], context: StepContext) -> dict[str, Tensor]:
    """Return the mean of each term over the batch, 0-d or `(R,)`, with its graph.

    Raises:
        ShapeError: for a term without one value per sample or per judgement of a head.

    Example:
        >>> import torch
        >>> context = StepContext(discriminator=nn.Flatten(0), fake=torch.zeros(2, 1))
        >>> mean_terms({"loss": torch.tensor([1.0, 3.0])}, context)
        {'loss': tensor(2.)}
    """
    means: dict[str, Tensor] = {}
    for name, term in terms.items():
        _check_term(name, term, context)
        term = widened(term)
        means[name] = term.mean() if term.ndim == 1 else term.mean(-1)
    return means


def weighted_sums(means: Mapping[str, Tensor], context: StepContext) -> dict[str, Tensor]:
    """Return the means by term, in which those of heads are added, weighted like the heads.

    Raises:
        BadValueError: for weights of heads that are not one for each head.

    Example:
        >>> import torch
        >>> context = StepContext(discriminator=nn.Flatten(0), fake=torch.zeros(2, 1))
        >>> weighted_sums({"loss/head0": torch.tensor(1.0), "loss/head1": torch.tensor(2.0)}, context)
        {'loss': tensor(3.)}
    """
    sums: dict[str, Tensor] = {}
    weights = context.head_weights
    for name, mean in means.items():
        whole, slash, head = name.rpartition("/head")
        if not slash or not head.isdigit() or name.startswith("penalty/"):  # a penalty may have any name
            sums[name] = mean
            continue
        if weights is not None:
            check_head_weights(weights, len(context.heads("fake")))
            mean = mean if weights[int(head)] == 1 else weights[int(head)] * mean
        sums[whole] = sums[whole] + mean if whole in sums else mean
    return sums


def _by_head(name: str, values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the values of each head by a name of its own, or by the name alone if there is one head."""
    return {name: values[0]} if len(values) == 1 else {f"{name}/head{i}": one for i, one in enumerate(values)}


def normalized(weights: Sequence[float] | None, heads: int) -> list[float]:
    """Return the share of each head in a weighted mean.

    Example:
        >>> normalized([1.0, 3.0], 2), normalized(None, 2)
        ([0.25, 0.75], [0.5, 0.5])
    """
    check_head_weights(weights, heads)
    values = [1.0] * heads if weights is None else list(weights)
    whole = sum(values)
    return [one / whole if whole else 1 / heads for one in values]


def _check_term(name: str, term: Tensor, context: StepContext) -> None:
    *replicas, count = context.batch_shape
    if term.shape == context.batch_shape:
        return
    shapes = [head.shape for head in context.heads("fake")]
    if term.shape not in shapes:
        wanted = " or ".join(str(tuple(one)) for one in dict.fromkeys([torch.Size((*replicas, count)), *shapes]))
        raise ShapeError(
            f"{name} must have one value per sample or per judgement, {wanted}, got {tuple(term.shape)}; leave the "
            "mean to the trainer"
        )


def _by_name(
    regularizers: Mapping[str, Regularizer | Constraint] | Sequence[Regularizer | Constraint],
) -> dict[str, Regularizer | Constraint]:
    if isinstance(regularizers, Mapping):
        named = dict(regularizers)
    elif not isinstance(regularizers, Iterable):
        raise BadArgumentsError(f"regularizers must be a sequence or a mapping by name, got {regularizers!r}")
    else:
        named = cast("dict[str, Regularizer | Constraint]", {})
        for part in regularizers:
            name = part_name(part)
            if name in named:
                raise BadValueError(f"two regularizers are called {name!r}; name them by a mapping")
            named[name] = part
    for name, part in named.items():
        if not isinstance(part, (Regularizer, Constraint)):
            raise BadArgumentsError(
                f"regularizer {name!r} must have half, every, gradient_inputs and be callable, or have every and "
                f"apply, got {part!r}"
            )
        if isinstance(part, Regularizer) and part.half not in get_args(Half):
            raise BadArgumentsError(
                f"regularizer {name!r} must have the half 'discriminator' or 'generator', got {part.half!r}"
            )
    return named
