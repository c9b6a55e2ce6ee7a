"""Normalisation of tokens, modulated by time and condition.

``LayerNorm(x) (1 + scale) + shift`` lets a network amplify some features. Where latents have
outliers it amplifies those too; without the scale it cannot.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from flowgen.core import InputError

_EPS = 1e-6


@runtime_checkable
class Norm(Protocol):
    """Normalises each token over its features, then modulates it."""

    def __call__(
        self, x: Float[Tensor, "b n w"], shift: Tensor, scale: Tensor
    ) -> Float[Tensor, "b n w"]:
        """Return the tokens, shape ``(b, n, w)``; shift and scale are ``(b or 1, 1, w)``."""
        ...

    def learned(self) -> nn.Module:
        """Return the norm of tokens that nothing modulates: shift, and scale if any, are learned.

        It maps ``(b, n, w)`` to the same shape and starts as the plain normalisation.
        """
        ...


def norm_of(build: Callable[[int], Norm], width: int) -> Norm:
    """Return the norm of a network's tokens.

    Args:
        build: Builds it from the features of a token.
        width: Those features.

    Raises:
        InputError: If it is none that can be modulated, as ``torch.nn.LayerNorm`` is not.
    """
    built: object = build(width)
    if not isinstance(built, Norm):
        raise InputError(
            f"norm must be modulated by time and condition, and {type(built).__name__} is not: use "
            "flowgen.models.ScalingNorm or NonScalingNorm"
        )
    return built


class ScalingNorm(nn.Module):
    """``LayerNorm(x) (1 + scale) + shift``, as in adaLN-zero.

    Args:
        width: Features of a token.

    Source: Peebles and Xie 2022, arXiv 2212.09748, section 3.2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(
        self, x: Float[Tensor, "b n w"], shift: Tensor, scale: Tensor
    ) -> Float[Tensor, "b n w"]:
        """Return the modulated tokens, see :class:`Norm`."""
        return layer_norm(x, (self.width,), eps=_EPS) * (1 + scale) + shift

    def learned(self) -> nn.Module:
        """Return ``LayerNorm(x) weight + bias``, see :class:`Norm`."""
        return nn.LayerNorm(self.width, eps=_EPS)


class NonScalingNorm(nn.Module):
    """``LayerNorm(x) + shift``: every feature keeps its unit variance, outliers are not amplified.

    For consistency training on latents. The shift has the bias of the layer that makes it.

    Args:
        width: Features of a token.

    Source: Dao et al. 2025, arXiv 2502.01441 (non-scaling layer norm).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(
        self, x: Float[Tensor, "b n w"], shift: Tensor, scale: Tensor
    ) -> Float[Tensor, "b n w"]:
        """Return the shifted tokens, see :class:`Norm`."""
        del scale
        return layer_norm(x, (self.width,), eps=_EPS) + shift

    def learned(self) -> nn.Module:
        """Return ``LayerNorm(x) + bias``, see :class:`Norm`."""
        norm = nn.LayerNorm(self.width, eps=_EPS)
        # Without the parameter, not with one that stands still: weight decay must not find it.
        norm.register_parameter("weight", None)
        return norm
