"""The 2-D sets of the field, as distributions one can draw from for ever.

Each is a :class:`flowgen.core.Source` and, through :class:`flowgen.data.PointData`, a data set. All
randomness comes from one torch generator, and rows are independent (scikit-learn's moons place
points on a fixed grid of angles; here the angle is uniform, which is the same curve and density).
The defaults of moons and s-curve are those of Tong et al. 2023 (arXiv 2302.00482); checkerboard,
pinwheel and swiss roll are those of Grathwohl et al. 2018 (FFJORD, arXiv 1810.01367).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowgen.core import InputError

Device = torch.device | str | None


@dataclass(frozen=True)
class Moons:
    """Two interleaving half circles: ``scale (curve + noise) + (shift_x, shift_y)``.

    The upper moon is ``(cos a, sin a)``, the lower ``(1 - cos a, 1/2 - sin a)``, ``a`` in [0, pi].

    Args:
        noise: Standard deviation before scaling, >= 0.
        scale: Factor on both coordinates, > 0.
        shift_x: Added to the first coordinate after scaling.
        shift_y: Added to the second coordinate after scaling.

    Raises:
        InputError: If an argument is out of range.

    Source: Tong et al. 2023, arXiv 2302.00482 (x 2, then the first coordinate - 1).
    """

    noise: float = 0.05
    scale: float = 2.0
    shift_x: float = -1.0
    shift_y: float = 0.0
    shape: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_not_negative("noise", self.noise)
        _check_positive("scale", self.scale)
        if not math.isfinite(self.shift_x) or not math.isfinite(self.shift_y):
            raise InputError(f"shifts must be finite, got {self.shift_x}, {self.shift_y}")

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None
    ) -> Tensor:
        """Return ``n`` samples, float32 ``(n, 2)``; the generator lives on ``device``."""
        upper = torch.rand(n, generator=generator, device=device) < 0.5
        angle = math.pi * torch.rand(n, generator=generator, device=device)
        x = torch.where(upper, angle.cos(), 1.0 - angle.cos())
        y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
        curve = _noisy(torch.stack([x, y], dim=1), self.noise, generator)
        return self.scale * curve + curve.new_tensor([self.shift_x, self.shift_y])


@dataclass(frozen=True)
class SCurve:
    """An S: ``scale ((sin a, sign(a) (cos a - 1)) + noise)``, ``a`` in [-3 pi / 2, 3 pi / 2].

    Args:
        noise: Standard deviation before scaling, >= 0.
        scale: Factor on both coordinates, > 0.

    Raises:
        InputError: If an argument is out of range.

    Source: Tong et al. 2023, arXiv 2302.00482 (axes 0 and 2 of scikit-learn's s-curve).
    """

    noise: float = 0.05
    scale: float = 1.5
    shape: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_not_negative("noise", self.noise)
        _check_positive("scale", self.scale)

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None
    ) -> Tensor:
        """Return ``n`` samples, float32 ``(n, 2)``; the generator lives on ``device``."""
        angle = 3.0 * math.pi * (torch.rand(n, generator=generator, device=device) - 0.5)
        curve = torch.stack([angle.sin(), angle.sign() * (angle.cos() - 1.0)], dim=1)
        return self.scale * _noisy(curve, self.noise, generator)


@dataclass(frozen=True)
class Checkerboard:
    """Uniform on the squares of one colour of a board, the lower left square included.

    Args:
        num_cells: Squares along a side, even and >= 2.
        half_width: The board is ``[-half_width, half_width]`` squared, > 0.

    Raises:
        InputError: If an argument is out of range.

    Source: Grathwohl et al. 2018, arXiv 1810.01367 (4 squares of side 2).
    """

    num_cells: int = 4
    half_width: float = 4.0
    shape: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.num_cells < 2 or self.num_cells % 2:
            raise InputError(f"num_cells must be even and >= 2, got {self.num_cells}")
        _check_positive("half_width", self.half_width)

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None
    ) -> Tensor:
        """Return ``n`` samples, float32 ``(n, 2)``; the generator lives on ``device``."""
        half = self.num_cells // 2
        column = torch.randint(self.num_cells, (n,), generator=generator, device=device)
        row = 2 * torch.randint(half, (n,), generator=generator, device=device) + column % 2
        inside = torch.rand(n, 2, generator=generator, device=device)
        return (torch.stack([column, row], dim=1) + inside - half) * (self.half_width / half)


@dataclass(frozen=True)
class Pinwheel:
    """Bent blades around the origin.

    A point ``(r, q)`` with ``r ~ N(1, radial_std^2)``, ``q ~ N(0, tangential_std^2)`` is turned
    clockwise by ``2 pi k / num_blades + rate exp(r)`` and multiplied by ``scale``.

    Args:
        num_blades: How many, >= 1.
        radial_std: Length of a blade, > 0.
        tangential_std: Width of a blade, > 0.
        rate: How much a blade bends, finite.
        scale: Factor on both coordinates, > 0.

    Raises:
        InputError: If an argument is out of range.

    Source: Grathwohl et al. 2018, arXiv 1810.01367; after Johnson et al. 2016, arXiv 1603.06277.
    """

    num_blades: int = 5
    radial_std: float = 0.3
    tangential_std: float = 0.1
    rate: float = 0.25
    scale: float = 2.0
    shape: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.num_blades < 1:
            raise InputError(f"num_blades must be >= 1, got {self.num_blades}")
        for name in ("radial_std", "tangential_std", "scale"):
            _check_positive(name, getattr(self, name))
        if not math.isfinite(self.rate):
            raise InputError(f"rate must be finite, got {self.rate}")

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None
    ) -> Tensor:
        """Return ``n`` samples, float32 ``(n, 2)``; the generator lives on ``device``."""
        blade = torch.randint(self.num_blades, (n,), generator=generator, device=device)
        noise = torch.randn(n, 2, generator=generator, device=device)
        r, q = 1.0 + self.radial_std * noise[:, 0], self.tangential_std * noise[:, 1]
        angle = blade * (2.0 * math.pi / self.num_blades) + self.rate * r.exp()
        sin, cos = angle.sin(), angle.cos()
        return self.scale * torch.stack([r * cos + q * sin, q * cos - r * sin], dim=1)


@dataclass(frozen=True)
class SwissRoll:
    """A spiral: ``scale (a (cos a, sin a) + noise)``, ``a`` in [3 pi / 2, 9 pi / 2].

    Args:
        noise: Standard deviation before scaling, >= 0.
        scale: Factor on both coordinates, > 0.

    Raises:
        InputError: If an argument is out of range.

    Source: Grathwohl et al. 2018, arXiv 1810.01367 (axes 0 and 2 of scikit-learn's roll, / 5).
    """

    noise: float = 1.0
    scale: float = 0.2
    shape: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_not_negative("noise", self.noise)
        _check_positive("scale", self.scale)

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: Device = None
    ) -> Tensor:
        """Return ``n`` samples, float32 ``(n, 2)``; the generator lives on ``device``."""
        uniform = torch.rand(n, generator=generator, device=device)
        angle = 1.5 * math.pi * (1.0 + 2.0 * uniform)
        curve = torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1)
        return self.scale * _noisy(curve, self.noise, generator)


def _noisy(x: Tensor, std: float, generator: torch.Generator | None) -> Tensor:
    return x + std * torch.randn(x.shape, generator=generator, device=x.device)


def _check_positive(name: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise InputError(f"{name} must be finite and > 0, got {value}")


def _check_not_negative(name: str, value: float) -> None:
    if not 0.0 <= value < math.inf:
        raise InputError(f"{name} must be finite and >= 0, got {value}")
