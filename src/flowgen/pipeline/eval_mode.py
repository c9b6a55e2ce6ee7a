"""A module in evaluation mode for as long as something is computed with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module to evaluation and back, whatever happens between."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
