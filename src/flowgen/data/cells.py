"""Single cells of blood with their types: small real data for maps from one type to another.

700 peripheral blood mononuclear cells (10x Genomics, 68k PBMC, reduced), 765 genes, ten types, as
the package ``scanpy`` ships them: log counts, scaled, and their 50 principal components. Models see
the components, standardised with the mean and the one spread of the training cells of all types, so
that every type lies in one space. Only a file is read; scanpy itself is not imported.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.data.arrays import ArraySplit
from flowgen.data.codecs import Standardize
from flowgen.data.protocol import Codec, Split
from flowgen.data.splits import check_holdout, stratified_split

FILE = "datasets/10x_pbmc68k_reduced.h5ad"
"""Inside the package scanpy."""

INSTALL = "pip install h5py && pip install --no-deps scanpy"


class CellData:
    """Principal components of cells, labelled by their types where there are several.

    Args:
        types: Names of cell types; None takes all ten.
        dims: Principal components, in 2..50.
        holdout: Share of each type that is held out, in (0, 1).
        seed: Of the split, non-negative; the same for every choice of types.
        file: The ``.h5ad`` file; None takes that of the installed package.

    Raises:
        InputError: If a name is unknown, a number is out of range, or file or packages are missing.
    """

    def __init__(
        self,
        types: Sequence[str] | None = None,
        dims: int = 50,
        holdout: float = 0.2,
        seed: int = 0,
        file: str | Path | None = None,
    ) -> None:
        check_holdout(holdout, seed)
        found = _read(_file(file))
        most = found["pca"].shape[1]
        if not 2 <= dims <= most:
            raise InputError(f"dims must lie in 2..{most}, got {dims}")
        known: list[str] = found["types"]
        wanted = known if types is None else list(types)
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted or len(set(wanted)) != len(wanted):
            raise InputError(f"types must be different ones of {', '.join(known)}, got {wanted}")
        x, label = torch.from_numpy(found["pca"][:, :dims]), torch.from_numpy(found["label"])
        train, test = stratified_split(label, holdout, seed=seed)
        mean = x[train].double().mean(dim=0)
        std = float((x[train].double() - mean).square().mean().sqrt())
        self.name = "cells"
        self.shape: tuple[int, ...] = (dims,)
        self.codec: Codec = Standardize(mean.tolist(), std)
        self.label_names = tuple(wanted) if len(wanted) > 1 else None
        self.num_classes = len(wanted) if len(wanted) > 1 else None
        self.genes: tuple[str, ...] = tuple(found["genes"])
        self._loadings = torch.from_numpy(found["loadings"][:, :dims]).float()
        self._markers: dict[str, list[str]] = found["markers"]
        self._train, self._test = (
            self._of(x[rows], label[rows], known, wanted) for rows in (train, test)
        )

    @property
    def train(self) -> Split:
        """Cells to train on."""
        return self._train

    @property
    def test(self) -> Split:
        """Held-out cells."""
        return self._test

    def expression(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n g"]:
        """Return the scaled expression of the genes that components ``x (n, dims)`` stand for."""
        return x @ self._loadings.T

    def markers(self, cell_type: str, count: int = 50) -> list[int]:
        """Return the numbers of the genes that tell a type best, among those that are known.

        Raises:
            InputError: If the file ranks no genes for the type.
        """
        if cell_type not in self._markers:
            raise InputError(f"no marker genes are known for {cell_type}")
        places = {gene: i for i, gene in enumerate(self.genes)}
        ranked = [places[gene] for gene in self._markers[cell_type] if gene in places]
        return ranked[:count]

    def _of(self, x: Tensor, label: Tensor, known: list[str], wanted: list[str]) -> ArraySplit:
        number = torch.full((len(known),), -1)
        for i, name in enumerate(wanted):
            number[known.index(name)] = i
        own = number[label]
        rows = own >= 0
        return ArraySplit(x[rows].float(), own[rows] if len(wanted) > 1 else None)


def _file(given: str | Path | None) -> Path:
    if given is not None:
        file = Path(given).expanduser()
        if not file.is_file():
            raise InputError(f"file {file} does not exist")
        return file
    package = find_spec("scanpy")
    if package is None or package.origin is None:
        raise InputError(f"data=cells needs the file of the package scanpy: {INSTALL}")
    file = Path(package.origin).parent / FILE
    if not file.is_file():
        raise InputError(f"this scanpy has no {FILE}: {INSTALL}==1.11.5, or give file=<path>")
    return file


def _read(file: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"data=cells needs h5py: {INSTALL}") from error
    try:
        with h5py.File(file) as opened:
            content: Any = opened
            ranked = np.asarray(content["uns/rank_genes_groups/names"])
            loadings = np.asarray(content["varm"]["PCs"])
            used = np.isfinite(loadings).all(axis=1)  # others are no part of the components
            return {
                "pca": np.asarray(content["obsm"]["X_pca"], dtype=np.float32),
                "label": np.asarray(content["obs"]["bulk_labels"]).astype(np.int64),
                "types": [name.decode() for name in content["uns/bulk_labels_categories"][:]],
                "genes": [name.decode() for name in content["var"]["index"][used]],
                "loadings": loadings[used],
                "markers": {
                    name: [gene.decode() for gene in ranked[name]]
                    for name in ranked.dtype.names or ()
                },
            }
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{file} cannot be read as cells: {' '.join(str(error).split())}"
        ) from error
