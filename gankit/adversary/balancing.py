"""The balance of several losses by the norms of their gradients: `balanced_weight` and `Balancer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.errors import BadArgumentsError, BadValueError, GradientError, ShapeError, check_positive, did_you_mean
from gankit.training.parallel.ranks import Ranks


def balanced_weight(
    reconstruction: Tensor,
    term: Tensor,
    *,
    at: Tensor,
    epsilon: float = 1e-4,
    largest: float = 1e4,
    average_over_ranks: bool = False,
) -> Tensor:
    """Return the weight with which a term's gradient is as large as the reconstruction's (Esser et al. 2021, eq. 7).

    Formula: `min(||d reconstruction / d at|| / (||d term / d at|| + epsilon), largest)`, with Euclidean norms over all
    numbers of `at`. The defaults are those of the authors' code; the paper's delta is 1e-6. Their models multiply the
    weight by a further factor, 0.8 in most: `reconstruction + 0.8 * balanced_weight(...) * term`.

    The function has no state, calls no `backward`, changes no `.grad`, and does not wait for the device. It
    differentiates each loss once more, down to `at`, and keeps their graphs. The norms are computed in float32 (in
    float64 if `at` is float64) and outside autocast, even if it is called inside.

    Call it before a gradient scaler sees the losses. Where gradients underflow in float16, pass both losses scaled by
    the same number, `scaler.scale(reconstruction)` and `scaler.scale(term)`: the ratio is the same, and only `epsilon`
    counts for less.

    Args:
        reconstruction: The loss to compare with, 0-d. In the authors' code it is the pixel loss plus the perceptual
            loss, without the codebook's.
        term: The adversarial term, 0-d. If it has no graph, because it has not started, or in evaluation, the weight
            is 0, so that a loop needs no branch.
        at: The tensor at which the gradients are compared: the weight of the generator's last layer, and otherwise any
            tensor in the graph of both losses. With `fully_shard` or `FullyShardedDataParallel`, parameters are cut
            into pieces, so give a tensor between the layers, such as the generator's output.
        epsilon: The number that is added to the norm of the term's gradient.
        largest: The largest weight.
        average_over_ranks: Whether the two gradients are averaged over all processes of `torch.distributed`, so that
            all ranks have the weight that one process would have with the batches of all. `at` must then be a
            parameter, and the term must have a graph on all ranks or on none. By default each rank has a weight of its
            own, as in the authors' code. Without a process group, it changes nothing.

    Returns:
        The weight, 0-d and without a graph, in [0, largest].

    Raises:
        GradientError: If `at` requires no gradient although one of the losses has a graph, if the term has a graph and
            one of the losses does not depend on `at`, or if `backward` has freed a graph. A reconstruction without a
            graph is such an error: its gradient is zero, and the weight would be zero in every step.
        ShapeError: If a loss is not 0-d.
        BadValueError: If `epsilon` or `largest` is not above 0, or `at` is not fit for `average_over_ranks`.
        BadArgumentsError: If something is not a tensor or a number, or `at` is a `DTensor`.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> reconstruction, adversarial = (3 * weight).sum(), (0.5 * weight).sum()
        >>> balanced_weight(reconstruction, adversarial, at=weight)      # about 3 / 0.5
        tensor(5.9992)
        >>> balanced_weight(reconstruction, torch.zeros(()), at=weight)  # a term that has not started
        tensor(0.)
    """
    losses = {"reconstruction": reconstruction, "term": term}
    for name, loss in losses.items():
        _check_scalar(name, loss)
    if not isinstance(at, Tensor):
        raise BadArgumentsError(f"at must be a tensor, got {type(at).__name__}")
    if getattr(at, "device_mesh", None) is not None:
        raise BadArgumentsError(
            "at must be whole on every process, got a DTensor, as fully_shard makes it; give a tensor between the "
            "layers, such as the generator's output"
        )
    check_positive("epsilon", epsilon)
    check_positive("largest", largest, infinite=True)
    if any(loss.requires_grad for loss in losses.values()) and not at.requires_grad:
        raise GradientError("at must require a gradient, got a tensor that does not; give a weight that is trained")
    if average_over_ranks and not at.is_leaf:
        raise BadValueError(
            "at must be a parameter if average_over_ranks is set, got the result of an operation, which belongs to "
            "other samples on every rank"
        )
    dtype = torch.promote_types(at.dtype, torch.float32)
    if not term.requires_grad:
        return torch.zeros((), dtype=dtype, device=at.device)
    with torch.autocast(at.device.type, enabled=False):
        gradients = [
            _gradient(name, loss, "at", at).to(dtype, copy=average_over_ranks) for name, loss in losses.items()
        ]
        if average_over_ranks:
            Ranks.present().average(gradients)
        of_reconstruction, of_term = (_norms_of_rows(one, 1)[0] for one in gradients)
        return (of_reconstruction / (of_term + epsilon)).clamp(0.0, largest)


class Balancer(nn.Module):
    """A sum of losses in which each loss has a fixed share of the gradient (Défossez et al. 2022, section 3.4).

    Formula: with `g_i` the gradient of loss i with respect to the model's output, the gradient of the result is
    `sum_i total_norm * w_i / sum_j w_j * g_i / (<||g_i||> + epsilon)`, where `<>` is an average over the past calls. A
    weight is therefore the share of the gradient that comes from the loss, whatever the size of the loss is.

    The average is `sum_t decay^(T - t) ||g_i||_t / sum_t decay^(T - t)` over the T calls in which loss i took part, so
    that it has no bias toward zero at the start, as in the authors' code. Norms that are not finite, such as those of a
    step that a gradient scaler skips, are left out. In eval mode, the averages include the present call but do not keep
    it.

    The object calls no `backward` and does not wait for the device. Where the authors' code calls
    `balancer.backward(losses, output)`, write `balancer(losses, output).backward()`. You may first add losses that are
    not balanced, and you divide the result, not the losses, by the number of batches whose gradients you accumulate.
    The losses are differentiated down to the output only, so parameters behind it, such as the discriminator's, get no
    gradient. Use an output in float32 or bfloat16: under float16, compute the losses from `output.float()` and give the
    same tensor to the balancer, and scale its result as any other loss.

    A loss that is missing in a call, or has no graph because its term has not started, takes no part, and its share
    goes to the others. `balancer({"l1": l1, **adversary.generator_terms(fake=y)}, y)` therefore needs no branch. (The
    authors' code does so before the first call with the loss, and fails afterwards.) If none has a graph, as in
    evaluation, the result is a zero without a graph.

    **Normalising the gradient at the output** is the case `decay=0`: each gradient is divided by its own norm in this
    call. `Balancer({"adversarial": 1.0}, total_norm=(1 / output.numel()) ** 0.5, decay=0, per_batch_item=False)` gives
    the adversarial gradient a root mean square of `1 / output.numel()`, as adversarial flow models do (Lin et al. 2025,
    with `ema_decay=0` in their code; they average squared norms, with a bias toward zero at the start).

    With several processes in `torch.distributed`, the norms are averaged over them, weighted by the size of each batch
    if `per_batch_item` is set, so that the averages are the same everywhere and the state of one rank is that of all.
    All ranks must pass the same losses. The authors average their running averages instead, which is the same as long
    as the sizes of the batches do not change.

    Args:
        weights: The weight of each loss by its name, above 0. A name must not contain a dot.
        total_norm: The sum of the norms that the balanced gradients have on average. With `per_batch_item`, it is that
            of each sample, so that the gradient of a parameter grows with the size of the batch.
        decay: The factor by which past norms count less after each call, in [0, 1]. 0 uses the norms of the present
            call alone, 1 the mean of all.
        per_batch_item: Whether the norm of a gradient is the mean over the norms of the samples, whose number is the
            first dimension of the output, or the norm of the whole gradient.
        epsilon: The number that is added to each norm.

    Attributes:
        metrics: Of the newest call, for each loss that took part `<name>_norm_share`, the share of its averaged norm
            in the sum of all before balancing, 0-d.

    Raises:
        BadValueError: If a number is out of its range, or a name cannot be a part of a key of a `state_dict`.
        BadArgumentsError: If `weights` is not a mapping from names to numbers.

    Example:
        >>> balancer = Balancer({"l1": 1.0, "adversarial": 3.0})
        >>> output = torch.zeros(1, 4, requires_grad=True)
        >>> losses = {"l1": 100 * output.sum(), "adversarial": -0.01 * output.sum()}
        >>> balancer(losses, output).backward()
        >>> output.grad.norm()                        # 3/4 - 1/4
        tensor(0.5000)
        >>> balancer.metrics["l1_norm_share"]         # 100 / 100.01
        tensor(0.9999)
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        total_norm: float = 1.0,
        decay: float = 0.999,
        per_batch_item: bool = True,
        epsilon: float = 1e-12,
    ) -> None:
        super().__init__()
        if not isinstance(weights, Mapping) or not weights:
            raise BadArgumentsError(
                f"weights must be a mapping from the names of the losses to numbers, got {weights!r}"
            )
        for name, weight in weights.items():
            if not isinstance(name, str) or not name or "." in name:
                raise BadValueError(f"weights must have names without a dot, which divides a state_dict, got {name!r}")
            check_positive(f"the weight of {name}", weight)
        check_positive("total_norm", total_norm)
        check_positive("epsilon", epsilon)
        check_positive("decay", decay, zero=True)
        if decay > 1:
            raise BadValueError(f"decay must be in [0, 1], got {decay!r}")
        self.weights: dict[str, float] = dict(weights)
        self.total_norm = total_norm
        self.decay = decay
        self.per_batch_item = per_batch_item
        self.epsilon = epsilon
        self.metrics: dict[str, Tensor] = {}
        for name in self.weights:
            # the weighted sum of the past norms, and the sum of their weights
            self.register_buffer(_buffer_of(name), torch.zeros(2))

    @override
    def forward(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """Return the balanced loss, whose gradient with respect to the output is the balanced gradient.

        Args:
            losses: The losses by name, 0-d.
            output: The output of the model that all losses were computed from, `(N, ...)`. The gradient of the result
                reaches the model through it alone.

        Returns:
            The sum of the losses, each multiplied by the factor that its gradient was multiplied by, 0-d.

        Raises:
            BadValueError: If there is no loss, or one with an unknown name.
            BadArgumentsError: If something is not a tensor, or the losses have no names.
            GradientError: If a loss with a graph does not depend on the output, or `backward` has freed its graph.
            ShapeError: If a loss is not 0-d, or the output has no samples.
        """
        self._check(losses, output)
        with torch.no_grad(), torch.autocast(output.device.type, enabled=False):
            gradients = {
                name: _gradient(f"the loss {name}", loss, "output", output)
                for name, loss in losses.items()
                if loss.requires_grad
            }
            if not gradients:
                return torch.zeros((), device=output.device)
            averages = self._average(self._norms(gradients))
            total = torch.stack([*averages.values()]).sum()
            self.metrics = {f"{name}_norm_share": average / total for name, average in averages.items()}
            total_weight = sum(self.weights[name] for name in gradients)
            balanced = torch.zeros_like(output, dtype=torch.promote_types(output.dtype, torch.float32))
            value = torch.zeros_like(total)
            for name, gradient in gradients.items():
                factor = self.total_norm * self.weights[name] / total_weight / (self.epsilon + averages[name])
                balanced += gradient.to(balanced.dtype) * factor
                value = value + losses[name].detach() * factor
        return cast(Tensor, _WithGradient.apply(output, balanced, value))

    def _check(self, losses: Mapping[str, Tensor], output: Tensor) -> None:
        if not isinstance(losses, Mapping):
            raise BadArgumentsError(f"losses must be a mapping from names to losses, got {type(losses).__name__}")
        if not losses:
            raise BadValueError("losses must have at least one loss, got none")
        for name, loss in losses.items():
            if name not in self.weights:
                raise BadValueError(
                    f"losses must have the names of the weights, {', '.join(self.weights)}, got {name!r}."
                    f"{did_you_mean(str(name), self.weights)}"
                )
            _check_scalar(f"the loss {name}", loss)
        if not isinstance(output, Tensor):
            raise BadArgumentsError(f"output must be a tensor, got {type(output).__name__}")
        if not output.dim() or not output.numel():
            raise ShapeError(f"output must be one or more samples, (N, ...), got {tuple(output.shape)}")

    def _norms(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the norm of each gradient in this call, over all ranks, in the type of the averages."""
        norms: list[Tensor] = []
        rows = 1
        for name, gradient in gradients.items():
            rows = len(gradient) if self.per_batch_item else 1
            kept: Tensor = getattr(self, _buffer_of(name))
            norms.append(_norms_of_rows(gradient, rows).mean().to(torch.promote_types(kept.dtype, torch.float32)))
        ranks = Ranks.present()
        if ranks.size > 1:
            shared = torch.stack([*norms, torch.ones_like(norms[0])]) * rows
            ranks.average([shared])
            norms = [*(shared[:-1] / shared[-1])]
        return dict(zip(gradients, norms, strict=True))

    def _average(self, norms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the averages that include the norms of this call, and keep them in train mode."""
        averages: dict[str, Tensor] = {}
        for name, norm in norms.items():
            # on the device of the losses, and in float32 although the model may have been cast to half precision
            past: Tensor = getattr(self, _buffer_of(name)).to(norm)
            present = past * self.decay + torch.stack([norm, torch.ones_like(norm)])
            present = torch.where(norm.isfinite(), present, past)
            averages[name] = present[0] / present[1]
            if self.training:
                setattr(self, _buffer_of(name), past.copy_(present))
        return averages

    @override
    def extra_repr(self) -> str:
        """Return the arguments."""
        return (
            f"{self.weights}, total_norm={self.total_norm}, decay={self.decay}, "
            f"per_batch_item={self.per_batch_item}, epsilon={self.epsilon}"
        )


class _WithGradient(torch.autograd.Function):
    """A number whose gradient with respect to the output is given."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        ctx.dtype = output.dtype
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        # a gradient scaler's number may be too large for float16 before it is multiplied
        return (upstream[0] * gradient).to(ctx.dtype), None, None


def _buffer_of(name: str) -> str:
    return f"running_norm_{name}"


def _norms_of_rows(tensor: Tensor, rows: int) -> Tensor:
    """Return the norm of each of the equal parts of a tensor, `(rows,)`, in float32 or wider."""
    wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return cast(Any, torch.linalg).vector_norm(wide.reshape(rows, -1), dim=1)


def _check_scalar(name: str, loss: object) -> None:
    if not isinstance(loss, Tensor):
        raise BadArgumentsError(f"{name} must be a 0-d tensor, got {type(loss).__name__}")
    if loss.dim():
        raise ShapeError(f"{name} must be 0-d, got {tuple(loss.shape)}; take the mean first")


def _gradient(name: str, loss: Tensor, at_name: str, at: Tensor) -> Tensor:
    """Return the gradient of a loss, whose graph stays, or raise `GradientError` if there is none."""
    gradient = None
    if loss.requires_grad and at.requires_grad:
        try:
            (gradient,) = torch.autograd.grad(loss, at, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if "a second time" not in str(error):
                raise
            raise GradientError(
                f"{name} must have its graph, got one whose graph backward() has freed; call this before backward()"
            ) from error
    if gradient is None:
        raise GradientError(
            f"{name} must depend on {at_name}, got one whose gradient does not reach it; detach() or no_grad() cuts "
            "gradients off"
        )
    return gradient
