"""Pairs that the flow of a teacher has made, read from a folder."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from flowgen.core import InputError, Pair, Source, generator_for
from flowgen.couplings.figures import with_figures
from flowgen.couplings.pair_folder import INDEX, PairFolder, PairShards

_CLOSE = 1e-5  # of one draw on two machines


@runtime_checkable
class Described(Protocol):
    """A codec, as far as it tells what it is."""

    def to_config(self) -> Mapping[str, Any]:
        """Return its plain config."""
        ...


class MadePairs:
    """Replaces a batch by pairs of a folder, drawn at random; source, data and label together.

    The data of the batch are not used. What it gives depends on its generator and the size of the
    batch alone, so runs resume as with any coupling.

    Args:
        folder: Of ``flowgen make-pairs``, complete.
        source: Of the run: the pairs must start from it.
        codec: Of the run: it must decode as the teacher's, or what is learnt is shown wrongly.
        num_classes: Of the run; None leaves the labels of the pairs out.
        label_names: Of the run; None if it does not say.

    Attributes:
        of_flow: True: each ``x_1`` is where a flow takes ``x_0``.
        score_valid: False: given the data, the source is one point.
        exact_marginals: False: the data are the teacher's.
        condition_safe: True: labels were given out regardless of the noise.

    Raises:
        InputError: If the folder cannot be used, or does not fit the run.

    Source: Liu et al. 2022, arXiv 2209.03003, algorithm 1 (reflow).
    """

    of_flow: bool = True
    score_valid: bool = False
    exact_marginals: bool = False
    condition_safe: bool = True

    def __init__(
        self,
        folder: str | Path,
        source: Source,
        codec: Described,
        num_classes: int | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        about = PairFolder.read(folder)
        if not about.complete or len(about) == 0:
            raise InputError(
                f"{folder} holds {len(about)} of {about.num_pairs} pairs: go on by the flowgen "
                "make-pairs that was begun there"
            )
        if dict(about.codec) != dict(codec.to_config()):
            raise InputError(
                f"{folder} was made by a model whose data are encoded otherwise: "
                f"{dict(about.codec)} and {dict(codec.to_config())}; use the data it was trained on"
            )
        _check_labels(folder, about, num_classes, label_names)
        self.shards = PairShards(about)
        self.labelled = num_classes is not None
        if not _starts_from(source, about, self.shards):
            raise InputError(
                f"{folder} was made from another source than that of this run, or another version "
                "of torch draws other noise from its seed"
            )

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return as many pairs of the folder.

        Args:
            pair: Unweighted; only its size, type and device count.
            generator: Chooses the pairs, each independently.

        Returns:
            The pairs, with the stats of :func:`flowgen.couplings.with_figures`, where
            ``coupling/saved`` compares with the pairs given.

        Raises:
            InputError: If weights or other conditions than labels are there.
        """
        if pair.weight is not None:
            raise InputError("MadePairs got pairs with weights: weigh them after the coupling")
        if others := sorted(set(pair.cond or {}) - {"label"}):
            raise InputError(f"pairs of {INDEX} know labels and no other condition, got {others}")
        start = time.perf_counter()
        where = "cpu" if generator is None else generator.device
        chosen = torch.randint(len(self.shards), (len(pair),), generator=generator, device=where)
        rows = self.shards.rows(chosen.cpu())
        cond = {"label": rows["label"].to(pair.x_0.device)} if self.labelled else None
        made = Pair(rows["x_0"].to(pair.x_0), rows["x_1"].to(pair.x_1), cond)
        return with_figures(pair, made, ms=1e3 * (time.perf_counter() - start))


def _starts_from(source: Source, about: PairFolder, shards: PairShards) -> bool:
    """Return whether the pairs start from a source: its data are the same, or its first draw."""
    digest = getattr(source, "digest", None)  # of the rows of a source of data
    if digest is not None or "source" in about.settings:
        return digest == about.settings.get("source")
    seed = int(about.settings.get("seed", 0))
    first, drawn = shards.first(), source.sample(1, generator=generator_for(seed, 0))
    return first.shape == drawn.shape and torch.allclose(first, drawn.cpu(), atol=_CLOSE)


def _check_labels(
    folder: str | Path,
    about: PairFolder,
    num_classes: int | None,
    label_names: Sequence[str] | None,
) -> None:
    if num_classes is None:
        return
    if about.num_classes is None:
        raise InputError(
            f"{folder} was made by a model without labels: train with conditional=false"
        )
    mine, own = tuple(label_names or ()), about.label_names or ()
    differ = bool(mine and own) and mine != own
    if about.num_classes != num_classes or differ:
        raise InputError(
            f"{folder} has {about.num_classes} labels ({', '.join(own)}), and the data have "
            f"{num_classes} ({', '.join(mine)})"
        )
