"""Pairs from a fit to the whole data set: each noise gets the sample whose cell it falls into."""

import time
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair, Source
from flowgen.couplings.figures import with_figures
from flowgen.couplings.potentials import Potentials
from flowgen.couplings.semidiscrete import cell_of


class Semidiscrete:
    """Replaces the data of a batch by the partners of its noise in the whole training set.

    It costs one product of the noise with the data set a batch, ``O(b n d)``, and its optimality
    does not depend on the size of the batch. The data set is kept in memory in the model's space.

    Args:
        file: Of ``flowgen fit-coupling``, for the same data set and source.

    Attributes:
        score_valid: True: almost everywhere the partner of a noise does not change with it.
        exact_marginals: False: the masses of the samples are equal up to ``chi2`` of the fit.
        condition_safe: Whether each class was fitted on its own, so that its noise is the source.

    Raises:
        InputError: If the file cannot be used.

    Source: Mousavi-Hosseini et al. 2025, arXiv 2509.25519, with ``epsilon = 0``.
    """

    score_valid: bool = True
    exact_marginals: bool = False

    def __init__(self, file: str | Path) -> None:
        self.potentials = Potentials.load(file)
        self.condition_safe: bool = self.potentials.by_label
        self._x_1: Tensor | None = None
        self._label: Tensor | None = None

    def check_source(self, source: Source) -> None:
        """Look at the source that the noise will come from.

        Args:
            source: Of the run, for which the masses of the cells have to be equal.

        Raises:
            InputError: If the fit was made for another source.
        """
        if not self.potentials.fits(source):
            raise InputError(
                "the potentials were fitted to another source: fit again by flowgen fit-coupling, "
                "with the source of this run"
            )

    def use(self, x_1: Float[Tensor, "n *d"], label: Tensor | None, digest: str) -> None:
        """Take the training set.

        Args:
            x_1: All samples in their order, in the model's space, ``(n, *d)``.
            label: Their classes ``(n,)``, or None.
            digest: Of the set and its codec, :func:`flowgen.couplings.digest_of`.

        Raises:
            InputError: If the fit was made for another set.
        """
        if digest != self.potentials.digest or len(x_1) != len(self.potentials.potential):
            raise InputError(
                f"the potentials were fitted to another training set ({self.potentials.data}, "
                f"{len(self.potentials.potential)} samples), or to it in other units: fit again by "
                "flowgen fit-coupling, with the data settings of this run"
            )
        self._x_1 = x_1
        self._label = label

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the same noise with its partners; draws nothing.

        Args:
            pair: Unweighted. Its own ``x_1`` only says which classes are asked for: with a fit by
                label, row ``i`` gets a partner of class ``cond["label"][i]``.
            generator: Unused.

        Returns:
            The pairs, with the stats of :func:`flowgen.couplings.with_figures`.

        Raises:
            InputError: If :meth:`use` was not called, or weights or other conditions are there.
        """
        del generator
        if self._x_1 is None:
            raise InputError("Semidiscrete needs the training set: call use(x_1, label, digest)")
        if pair.weight is not None:
            raise InputError("Semidiscrete got pairs with weights: weigh them after the coupling")
        cond = dict(pair.cond or {})
        label = cond.pop("label", None)
        if cond:
            raise InputError(
                f"Semidiscrete knows the label of its partners and no other condition, got "
                f"{sorted(cond)}; use coupling=independent"
            )
        start = time.perf_counter()
        x_0 = pair.x_0.to(torch.promote_types(pair.x_0.dtype, torch.float32))
        self._move(x_0.device)
        potential = self.potentials.potential.to(x_0.device)
        if label is not None and self.potentials.by_label:
            index = self._inside_classes(x_0, label, potential)
        else:
            index = cell_of(x_0, self._x_1, potential)
        x_1 = self._x_1[index].to(pair.x_1.dtype)
        partners = None
        if label is not None:
            assert self._label is not None
            partners = {"label": self._label[index]}
        elapsed = 1e3 * (time.perf_counter() - start)
        return with_figures(pair, Pair(pair.x_0, x_1, partners), ms=elapsed)

    def _inside_classes(self, x_0: Tensor, label: Tensor, potential: Tensor) -> Tensor:
        assert self._x_1 is not None
        assert self._label is not None
        index = torch.empty_like(label)
        for value in label.unique():
            rows = (label == value).nonzero().flatten()
            members = (self._label == value).nonzero().flatten()
            if len(members) == 0:
                raise InputError(f"class {int(value)} has no sample in the training set")
            found = cell_of(x_0[rows], self._x_1[members], potential[members])
            index[rows] = members[found]
        return index

    def _move(self, device: torch.device) -> None:
        assert self._x_1 is not None
        if self._x_1.device != device:
            self._x_1 = self._x_1.to(device)
            self._label = None if self._label is None else self._label.to(device)
