"""Pairs that were made before, in batches as large as one likes, and are read from a file."""

import time
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair, Source
from flowgen.couplings.figures import with_figures
from flowgen.couplings.stored_pairs import BLOCK, StoredPairs, noise_block


class Stored:
    """Replaces a batch by pairs of a file, drawn in blocks of 64; noise is drawn from its seed.

    What it gives depends on its generator and the size of the batch alone, so runs resume as with
    any coupling. In a batch no block comes twice, unless the file has too few.

    Args:
        file: Of ``flowgen fit-pairs``, for the same data set and source.
        source: Of the run: its noise must be that of the file.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: True: those of the plans, up to the tolerance of their solver.
        condition_safe: Whether each class was paired on its own, so that its noise is the source.

    Raises:
        InputError: If the file cannot be used, or another source made it.

    Source: Zhang et al. 2025, arXiv 2506.05526.
    """

    score_valid: bool = False
    exact_marginals: bool = True

    def __init__(self, file: str | Path, source: Source) -> None:
        self.pairs = StoredPairs.load(file)
        if not self.pairs.fits(source):
            raise InputError(
                f"{file} was made with another source, or another version of torch draws other "
                "noise from its seed: make it again by flowgen fit-pairs, with the source of this "
                "run"
            )
        self.source = source
        self.condition_safe: bool = self.pairs.by_label
        self._x_1: Tensor | None = None
        self._label: Tensor | None = None

    def check_source(self, source: Source) -> None:
        """Look at the source that samples will start from.

        Args:
            source: Of the run, in the model's space.

        Raises:
            InputError: If its noise is not that of the file, as where source and data are sets of
                data with a normalisation each.
        """
        if not self.pairs.fits(source):
            raise InputError(
                "the pairs draw rows of the source in its own normalisation, and the model sees "
                "them in that of the data: use coupling=exact_assignment or another that pairs "
                "batches"
            )

    def use(self, x_1: Float[Tensor, "n *d"], label: Tensor | None, digest: str) -> None:
        """Take the training set.

        Args:
            x_1: All samples in their order, in the model's space, ``(n, *d)``.
            label: Their classes ``(n,)``, or None.
            digest: Of the set and its codec, :func:`flowgen.couplings.digest_of`.

        Raises:
            InputError: If the pairs were made for another set.
        """
        if digest != self.pairs.digest:
            raise InputError(
                f"the pairs were made for another training set ({self.pairs.data}), or for it in "
                "other units: make them again by flowgen fit-pairs, with the data settings of this "
                "run"
            )
        self._x_1 = x_1
        self._label = label

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return as many pairs of the file.

        Args:
            pair: Unweighted; only its size, types and device count, and whether it has labels.
            generator: Chooses the blocks.

        Returns:
            The pairs, with the stats of :func:`flowgen.couplings.with_figures`, where
            ``coupling/saved`` compares with the random pairs given.

        Raises:
            InputError: If :meth:`use` was not called, or weights or other conditions are there.
        """
        if self._x_1 is None:
            raise InputError("Stored needs the training set: call use(x_1, label, digest)")
        if pair.weight is not None:
            raise InputError("Stored got pairs with weights: weigh them after the coupling")
        names = set(pair.cond or {})
        if names - {"label"}:
            raise InputError(
                f"Stored knows the label of its samples and no other condition, got "
                f"{sorted(names)}; use coupling=independent"
            )
        start = time.perf_counter()
        rounds, rows = self.pairs.index.shape
        per_round = rows // BLOCK
        chosen = _chosen(rounds * per_round, -(-len(pair) // BLOCK), generator)
        noise, index = [], []
        for block in chosen.tolist():
            number, place = divmod(block, per_round)
            noise.append(noise_block(self.source, self.pairs.seed, number, place))
            index.append(self.pairs.index[number, place * BLOCK : (place + 1) * BLOCK])
        x_0 = torch.cat(noise)[: len(pair)].to(pair.x_0)
        row = torch.cat(index)[: len(pair)].long()
        x_1 = self._x_1[row.to(self._x_1.device)].to(pair.x_1)
        cond = None
        if names:
            assert self._label is not None
            label = self._label[row.to(self._label.device)]
            cond = {"label": label.to(pair.x_0.device)}
        elapsed = 1e3 * (time.perf_counter() - start)
        return with_figures(pair, Pair(x_0, x_1, cond), ms=elapsed)


def _chosen(number: int, count: int, generator: torch.Generator | None) -> Tensor:
    """Return ``count`` of ``number`` blocks, each as often as the others up to one."""
    where = "cpu" if generator is None else generator.device
    rounds = -(-count // number)
    orders = [torch.randperm(number, generator=generator, device=where) for _ in range(rounds)]
    return torch.cat(orders)[:count]
