"""Adaptive Runge-Kutta methods of torchdiffeq behind the signature of a single step.

An embedded pair of formulas estimates the local error ``e``; a trial step is accepted where the
root mean square of ``e / (atol + rtol |x|)`` is at most 1, and the next size follows from it. The
number of evaluations depends on field and tolerance: count it with
:class:`flowgen.integrators.Counted`.

Sources: Dormand and Prince 1980; Shampine 1986 (error coefficients); torchdiffeq's documentation.
"""

from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torchdiffeq import odeint

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.stepper import Time, accumulating, evaluate

ADAPTIVE_METHODS = MappingProxyType(
    {"dopri5": 5, "dopri8": 8, "bosh3": 3, "fehlberg2": 2, "adaptive_heun": 2}
)
"""The adaptive methods of torchdiffeq and their orders."""


class Adaptive:
    """One step with error control inside: as many sub-steps as the tolerance asks for.

    The step size is common to all rows of a batch, so a row depends on its batch mates within the
    tolerance; ``per_sample`` removes that. The field is only evaluated between the ends of the
    step, which torchdiffeq by itself does not promise.

    Args:
        method: A name of torchdiffeq: dopri5, dopri8, bosh3, fehlberg2, adaptive_heun.
        rtol: Tolerance relative to the size of the state, > 0. With a field in half precision take
            1e-3 or more: its rounding cannot be stepped away.
        atol: Absolute tolerance, > 0, in units of the state.
        max_num_steps: Trial steps after which it gives up, >= 1.
        per_sample: Solve each row alone, with its own step sizes: results do not depend on the
            batch at all, at the price of a batch of 1 in every evaluation.

    Raises:
        InputError: If the method is not adaptive or unknown, or a number is out of range.
    """

    def __init__(
        self,
        method: str = "dopri5",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_num_steps: int = 10_000,
        per_sample: bool = False,
    ) -> None:
        if method not in ADAPTIVE_METHODS:
            raise InputError(
                f"method must be one of {', '.join(ADAPTIVE_METHODS)}, got '{method}' "
                "(methods with fixed steps are classes of their own: Euler, Heun, ...)"
            )
        for name, value in (("rtol", rtol), ("atol", atol)):
            if not 0 < value < float("inf"):
                raise InputError(f"{name} must be finite and > 0, got {value}")
        if max_num_steps < 1:
            raise InputError(f"max_num_steps must be >= 1, got {max_num_steps}")
        self.method = method
        self.order = ADAPTIVE_METHODS[method]
        self.rtol = float(rtol)
        self.atol = float(atol)
        self.max_num_steps = max_num_steps
        self.per_sample = per_sample

    def step(
        self,
        field: VelocityField,
        x: Float[Tensor, "b *d"],
        s: Time,
        t: Time,
        cond: Condition | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return the state at time ``t``, correct to the tolerance.

        Args:
            field: The velocity.
            x: States ``(b, *d)`` at time ``s``.
            s: Where to start, in ``[0, 1]``.
            t: Where to end, in ``[0, 1]``; smaller than ``s`` to go backwards.
            cond: Conditions of the rows.

        Returns:
            States ``(b, *d)`` at ``t``, float32 at least.

        Raises:
            InputError: If the tolerance cannot be reached or the state becomes non-finite.
        """
        x, start, end = accumulating(x), float(s), float(t)
        if not self.per_sample:
            return self._solve(field, x, start, end, cond)
        rows = [self._solve(field, x[i : i + 1], start, end, _row(cond, i)) for i in range(len(x))]
        return torch.cat(rows)

    def _solve(
        self, field: VelocityField, x: Tensor, start: float, end: float, cond: Condition | None
    ) -> Tensor:
        low, high = min(start, end), max(start, end)

        def velocity(time: Tensor, state: Tensor) -> Tensor:
            return evaluate(field, state, time.clamp(low, high), cond)

        clock = torch.float32 if x.device.type == "mps" else torch.float64
        ends = torch.tensor([start, end], dtype=clock, device=x.device)
        # step_t makes the last sub-step end at `end`: by default it goes past and interpolates back
        options = {"dtype": clock, "step_t": ends[1:], "max_num_steps": self.max_num_steps}
        try:
            states = odeint(
                velocity,
                x,
                ends,
                rtol=self.rtol,
                atol=self.atol,
                method=self.method,
                options=options,
            )
        except AssertionError as error:
            reason = str(error).split(":")[0]
            raise InputError(
                f"{self.method} with rtol={self.rtol:g}, atol={self.atol:g} failed between "
                f"t={start:g} and t={end:g} ({reason}): loosen the tolerances or use fixed steps"
            ) from error
        assert isinstance(states, Tensor)
        return states[-1]

    def __repr__(self) -> str:
        return (
            f"Adaptive(method='{self.method}', rtol={self.rtol:g}, atol={self.atol:g}, "
            f"max_num_steps={self.max_num_steps}, per_sample={self.per_sample})"
        )


def _row(cond: Condition | None, index: int) -> Condition | None:
    """Return the conditions of one row, as a batch of 1."""
    return cond and {name: value[index : index + 1] for name, value in cond.items()}
