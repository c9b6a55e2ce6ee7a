"""Time grids: where a sampler with fixed steps puts its steps.

A grid is a callable ``num_steps -> nodes`` with ``num_steps + 1`` float64 nodes that rise strictly
from exactly 0 (source) to exactly 1 (data). Most are ``g(i / num_steps)`` for an increasing map
``g`` of ``[0, 1]`` onto itself; the slope of ``g`` says where steps are wide. Grids are built in
float64 because float32 can merge neighbouring nodes near 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from flowgen.core import InputError

Nodes = Float64[Tensor, " nodes"]


@runtime_checkable
class Grid(Protocol):
    """Places the nodes of a given number of steps."""

    def __call__(self, num_steps: int) -> Tensor:
        """Return ``num_steps + 1`` float64 nodes, rising strictly from 0 to 1."""
        ...


def check_num_steps(num_steps: int) -> None:
    """Raise unless ``num_steps`` is a positive integer.

    Raises:
        InputError: Naming the value.
    """
    if isinstance(num_steps, bool) or not isinstance(num_steps, int):
        raise InputError(f"num_steps must be an integer >= 1, got {num_steps}")
    if num_steps < 1:
        raise InputError(f"num_steps must be >= 1, got {num_steps}")


def _fractions(num_steps: int) -> Nodes:
    """Return ``i / num_steps`` for ``i = 0 .. num_steps``."""
    check_num_steps(num_steps)
    return torch.arange(num_steps + 1, dtype=torch.float64) / num_steps


def _pinned(nodes: Nodes) -> Nodes:
    """Return ``nodes`` with the ends set to exactly 0 and 1; they must rise strictly."""
    nodes[0], nodes[-1] = 0.0, 1.0
    if not bool((nodes.diff() > 0).all()):
        raise InputError(f"{len(nodes) - 1} steps are too many for this grid: nodes coincide")
    return nodes


@dataclass(frozen=True)
class Uniform:
    """Equal steps, ``t_i = i / n``."""

    def __call__(self, num_steps: int) -> Nodes:
        """Return the nodes of ``num_steps`` steps, shape ``(num_steps + 1,)``."""
        return _pinned(_fractions(num_steps))


@dataclass(frozen=True)
class LongLast:
    """Equal steps up to ``1 - last``, then one of size ``last``; a single step is the whole range.

    Stochastic samplers end so: a step without noise from where enough is left to be taken out.

    Args:
        last: Size of the last step, in ``(0, 1)``.

    Raises:
        InputError: If it is not inside.

    Source: Ma et al. 2024 (SiT), arXiv 2401.08740, whose choice is 0.04.
    """

    last: float = 0.04

    def __post_init__(self) -> None:
        """Check the size."""
        if not 0 < self.last < 1:
            raise InputError(f"last must be in (0, 1), got {self.last}")

    def __call__(self, num_steps: int) -> Nodes:
        """Return the nodes of ``num_steps`` steps, shape ``(num_steps + 1,)``."""
        if num_steps == 1:
            return _pinned(_fractions(num_steps))
        return _pinned(torch.cat([_fractions(num_steps - 1) * (1 - self.last), torch.ones(1)]))


@dataclass(frozen=True)
class Shifted:
    """Uniform nodes moved once by ``t -> t / (shift - (shift - 1) t)``.

    Args:
        shift: > 0; above 1 puts more steps near the noise, 1 is uniform. Two shifts compose to
            their product, so a shift must not be applied twice.
        terminal: Noise left where the last step starts, in ``(0, 1)``: all nodes but the last are
            scaled so that the last but one is ``1 - terminal``. None leaves them. Not for a single
            step.

    Raises:
        InputError: If ``shift`` is not positive, or ``terminal`` leaves its range.

    Source: Esser et al. 2024, arXiv 2403.03206, equation 23 (there with time reversed; 3 is its
    choice for images of 1024 pixels).
    """

    shift: float = 3.0
    terminal: float | None = None

    def __post_init__(self) -> None:
        """Check the shift."""
        if not 0 < self.shift < math.inf:
            raise InputError(f"shift must be finite and > 0, got {self.shift}")
        if self.terminal is not None and not 0 < self.terminal < 1:
            raise InputError(f"terminal must be in (0, 1), got {self.terminal}")

    def __call__(self, num_steps: int) -> Nodes:
        """Return the nodes of ``num_steps`` steps, shape ``(num_steps + 1,)``."""
        u = _fractions(num_steps)
        nodes = u / (self.shift - (self.shift - 1) * u)
        if self.terminal is not None and num_steps > 1:
            nodes[:-1] *= (1 - self.terminal) / nodes[-2].clone()
        return _pinned(nodes)


@dataclass(frozen=True)
class Quadratic:
    """Steps that grow linearly away from one end.

    Args:
        dense_at_data: True: ``1 - (1 - i/n)^2``, small steps near the data. False: ``(i/n)^2``,
            small steps near the source.
    """

    dense_at_data: bool = True

    def __call__(self, num_steps: int) -> Nodes:
        """Return the nodes of ``num_steps`` steps, shape ``(num_steps + 1,)``."""
        u = _fractions(num_steps)
        return _pinned(1 - (1 - u) ** 2 if self.dense_at_data else u**2)


@dataclass(frozen=True)
class EDMRho:
    """The noise levels of EDM, read on the linear path as ``t = 1 / (1 + level)``.

    ``level_i = (a + i/(n-1) (b - a))^rho`` with ``a = sigma_max^(1/rho)``, ``b =
    sigma_min^(1/rho)`` for ``i = 0 .. n-1``, then level 0. EDM starts at ``t = 1/(1+sigma_max)``
    (1/81 by default) from noise scaled to look like ``x_t``; here the first node is 0, where the
    state is the source sample exactly, so the first step is longer by that much. All other nodes
    are EDM's own.

    Args:
        sigma_min: Smallest level before 0, > 0, as a ratio of noise to signal.
        sigma_max: Largest level, > ``sigma_min``.
        rho: > 0; larger puts more steps near the data.

    Raises:
        InputError: If the levels are not ordered or ``rho`` is not positive.

    Source: Karras et al. 2022, arXiv 2206.00364, equation 5.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        """Check levels and exponent."""
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise InputError(
                "sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got "
                f"{self.sigma_min} and {self.sigma_max}"
            )
        if not 0 < self.rho < math.inf:
            raise InputError(f"rho must be finite and > 0, got {self.rho}")

    def __call__(self, num_steps: int) -> Nodes:
        """Return the nodes of ``num_steps`` steps, shape ``(num_steps + 1,)``."""
        check_num_steps(num_steps)
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        levels = torch.linspace(first, last, num_steps, dtype=torch.float64) ** self.rho
        return _pinned(1 / (1 + torch.cat([levels, levels.new_zeros(1)])))


@dataclass(frozen=True)
class LogSNRUniform:
    """Nodes at equal distances in the log signal-to-noise ratio of the linear path.

    ``log(t / (1 - t))`` runs uniformly from its value at ``t_min`` to that at ``t_max``; as it is
    infinite at 0 and 1, the two end nodes are then moved to exactly 0 and 1.

    Args:
        t_min: Where the uniform range starts, in (0, 1).
        t_max: Where it ends, in (``t_min``, 1).

    Raises:
        InputError: Unless ``0 < t_min < t_max < 1``.
    """

    t_min: float = 0.001
    t_max: float = 0.999

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.t_min < self.t_max < 1:
            raise InputError(
                "t_min and t_max must satisfy 0 < t_min < t_max < 1, got "
                f"{self.t_min} and {self.t_max}"
            )

    def __call__(self, num_steps: int) -> Nodes:
        """Return the nodes of ``num_steps`` steps, shape ``(num_steps + 1,)``."""
        u = _fractions(num_steps)
        low, high = (math.log(t / (1 - t)) for t in (self.t_min, self.t_max))
        return _pinned(torch.sigmoid(low + (high - low) * u))


@dataclass(frozen=True)
class Sway:
    """Sway sampling, ``t = u + coefficient (cos(pi u / 2) - 1 + u)`` with ``u = i / n``.

    Args:
        coefficient: Between -1 and 2 / (pi - 2) = 1.75, where the map still rises; negative puts
            more steps near the source (-1 gives ``1 - cos(pi u / 2)``), 0 is uniform.

    Raises:
        InputError: If the coefficient is out of range.

    Source: Chen et al. 2024 (F5-TTS), arXiv 2410.06885.
    """

    coefficient: float = -1.0

    def __post_init__(self) -> None:
        """Check the coefficient."""
        if not -1 <= self.coefficient <= 2 / (math.pi - 2):
            raise InputError(
                f"coefficient must lie in [-1, {2 / (math.pi - 2):.4f}], got {self.coefficient}"
            )

    def __call__(self, num_steps: int) -> Nodes:
        """Return the nodes of ``num_steps`` steps, shape ``(num_steps + 1,)``."""
        u = _fractions(num_steps)
        return _pinned(u + self.coefficient * (torch.cos(math.pi / 2 * u) - 1 + u))


@dataclass(frozen=True)
class Explicit:
    """Nodes given by hand, returned untouched.

    Args:
        nodes: At least 2 numbers rising strictly from 0 to 1.

    Raises:
        InputError: If they do not.
    """

    nodes: Sequence[float]

    def __post_init__(self) -> None:
        """Store plain numbers and check them."""
        nodes = tuple(float(node) for node in self.nodes)
        object.__setattr__(self, "nodes", nodes)
        if len(nodes) < 2 or nodes[0] != 0 or nodes[-1] != 1:
            raise InputError(f"nodes must run from 0 to 1, got {list(nodes)}")
        for s, t in zip(nodes[:-1], nodes[1:], strict=True):
            if not s < t:
                raise InputError(f"nodes must rise strictly, got {s} before {t}")

    def __call__(self, num_steps: int) -> Nodes:
        """Return the given nodes; ``num_steps`` must be one less than their number."""
        check_num_steps(num_steps)
        if num_steps != len(self.nodes) - 1:
            raise InputError(
                f"num_steps must be {len(self.nodes) - 1} for {len(self.nodes)} explicit nodes, "
                f"got {num_steps}"
            )
        return torch.tensor(self.nodes, dtype=torch.float64)
