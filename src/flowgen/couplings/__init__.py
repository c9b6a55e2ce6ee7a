"""Which source sample belongs to which data sample."""

from flowgen.couplings.class_assignment import ClassAssignment
from flowgen.couplings.exact_assignment import ExactAssignment
from flowgen.couplings.independent import Independent
from flowgen.couplings.solver import optimal_permutation

__all__ = ["ClassAssignment", "ExactAssignment", "Independent", "optimal_permutation"]
