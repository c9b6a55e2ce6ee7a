"""Integrators of ``dx/dt = v(x, t)``: steppers, time grids, samplers."""

from flowgen.integrators.adaptive import ADAPTIVE_METHODS, Adaptive
from flowgen.integrators.counted import Counted
from flowgen.integrators.edm_heun import EDMHeun
from flowgen.integrators.exponential import (
    DDIM,
    DPMSolver2M,
    DPMSolver3M,
    ExponentialMultistep,
    UniPC,
)
from flowgen.integrators.grids import (
    EDMRho,
    Explicit,
    Grid,
    LogSNRUniform,
    Quadratic,
    Shifted,
    Sway,
    Uniform,
)
from flowgen.integrators.integrate import integrate, trajectory
from flowgen.integrators.likelihood import (
    Divergence,
    ExactDivergence,
    Hutchinson,
    log_density_change,
)
from flowgen.integrators.multistep import AdamsBashforth
from flowgen.integrators.noise import Noise
from flowgen.integrators.runge_kutta import (
    RK4,
    Euler,
    Heun,
    Kutta3,
    Midpoint,
    Ralston,
    RK4ThreeEighths,
    RungeKutta,
    Tableau,
)
from flowgen.integrators.sampler import Sampler
from flowgen.integrators.stepper import Begins, Leg, Stepper, Time

__all__ = [
    "log_density_change",
    "Hutchinson",
    "ExactDivergence",
    "Divergence",
    "ADAPTIVE_METHODS",
    "AdamsBashforth",
    "Adaptive",
    "Begins",
    "Counted",
    "DDIM",
    "DPMSolver2M",
    "DPMSolver3M",
    "EDMHeun",
    "EDMRho",
    "Euler",
    "Explicit",
    "ExponentialMultistep",
    "Grid",
    "Heun",
    "Kutta3",
    "Leg",
    "LogSNRUniform",
    "Midpoint",
    "Noise",
    "Quadratic",
    "RK4",
    "RK4ThreeEighths",
    "Ralston",
    "RungeKutta",
    "Sampler",
    "Shifted",
    "Stepper",
    "Sway",
    "Tableau",
    "Time",
    "UniPC",
    "Uniform",
    "integrate",
    "trajectory",
]
