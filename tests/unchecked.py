"""Long trainings without the checks that every call of the suite has.

Shapes, types and values are checked in the first steps; a thousand more would check the same again
and take a quarter of the time.
"""

from contextlib import contextmanager, nullcontext

import jaxtyping

from flowgen.core import debug_checks

CHECKED = 20
"""Steps of a training that are checked."""


@contextmanager
def unchecked():
    """Turn run-time checks of types and of values off inside the context."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with debug_checks(False):
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def checked_at_first(step):
    """Return the context of a step of a training."""
    return nullcontext() if step < CHECKED else unchecked()
