"""Integrators of ``dx/dt = v(x, t)``: steppers, time grids, samplers."""

from flowgen.integrators.adaptive import ADAPTIVE_METHODS, Adaptive
from flowgen.integrators.counted import Counted
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
from flowgen.integrators.runge_kutta import RK4, Euler, Heun, Midpoint, RungeKutta, Tableau
from flowgen.integrators.sampler import Sampler
from flowgen.integrators.stepper import Stepper, Time

__all__ = [
    "ADAPTIVE_METHODS",
    "Adaptive",
    "Counted",
    "EDMRho",
    "Euler",
    "Explicit",
    "Grid",
    "Heun",
    "LogSNRUniform",
    "Midpoint",
    "Quadratic",
    "RK4",
    "RungeKutta",
    "Sampler",
    "Shifted",
    "Stepper",
    "Sway",
    "Tableau",
    "Time",
    "Uniform",
    "integrate",
    "trajectory",
]
