"""Muon: steps along the momentum made orthogonal, for weights that act as matrices.

Symbols used in this file
    b  matrices of one shape        i, o  their rows and columns, i ≤ o
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x³ and x⁵ by K. Jordan: steep at zero; singular values come to about 0.7 to 1.2, not to one."""
QUINTIC_STEPS = 5
SMALLEST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Muon (K. Jordan et al., https://kellerjordan.github.io/posts/muon, 2024).

    The momentum of a matrix is replaced by the nearest orthogonal one. Its steps are made as large as AdamW's (Liu et
    al., arXiv:2502.16982), so that one learning rate serves both. This is `torch.optim.Muon` with
    `adjust_lr_fn="match_rms_adamw"`, in the precision of the weights and for all matrices of one shape at once.
    """

    def __init__(
        self, matrices: Sequence[Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        """matrices: weights of two dimensions."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all matrices that have a gradient."""
        for group in self.param_groups:
            matrices = [matrix for matrix in group["params"] if matrix.grad is not None]
            if not matrices:
                continue
            gradients = [matrix.grad for matrix in matrices]
            momenta = [self._momentum_of(matrix) for matrix in matrices]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # after Nesterov
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(matrices, orthogonal_steps(ahead), alpha=-group["lr"])

    def _momentum_of(self, matrix: Parameter) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        return state["momentum_buffer"]


def orthogonal_steps(matrices: Sequence[Tensor]) -> list[Tensor]:
    """For each matrix the nearest orthogonal one, with elements of root mean square 0.2, as steps of AdamW have."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for number, matrix in enumerate(matrices):
        rows, columns = matrix.shape
        by_shape.setdefault((min(rows, columns), max(rows, columns)), []).append(number)
    steps = list(matrices)
    for (rows, columns), numbers in by_shape.items():
        wide = [m if len(m) == rows else m.t() for m in (matrices[number] for number in numbers)]
        scaled = orthogonal(torch.stack(wide)).mul_(0.2 * math.sqrt(columns))
        for number, step in zip(numbers, scaled, strict=True):
            steps[number] = step if len(matrices[number]) == rows else step.t()
    return steps


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly U Vᵀ of each U S Vᵀ, by Newton-Schulz iterations. matrices: (b, i, o). Returns (b, i, o)."""
    linear, cubic, quintic = QUINTIC
    x = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(QUINTIC_STEPS):
        gram = x @ x.transpose(1, 2)  # (b, i, i)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic), x, beta=linear)
    return x
