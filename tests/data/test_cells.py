"""Cells from a file made here: types, splits, one normalisation for all, genes, bad input."""

import importlib.util

import h5py
import numpy as np
import pytest
import torch

from flowgen.core import InputError
from flowgen.data import CellData
from flowgen.data.cells import _file

TYPES = ["B", "Dendritic", "NK"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """30 cells of three types in five components, whose first one is the number of the cell."""
    rng = np.random.default_rng(0)
    place = tmp_path_factory.mktemp("cells") / "few.h5ad"
    pca = rng.normal(size=(30, 5)).astype(np.float32)
    pca[:, 0] = np.arange(30)
    obs = np.zeros(30, dtype=[("index", "S8"), ("bulk_labels", "i1")])
    obs["bulk_labels"] = np.arange(30) % 3
    var = np.array([(f"g{i}".encode(),) for i in range(4)], dtype=[("index", "S8")])
    ranks = [(b"g2", b"g0", b"other"), (b"g3", b"g1", b"g0")]  # a field for each type
    names = np.array(ranks, dtype=[(kind, "S9") for kind in TYPES])
    with h5py.File(place, "w") as content:
        content["obs"], content["var"] = obs, var
        content["obsm"] = np.array([(row,) for row in pca], dtype=[("X_pca", "<f4", (5,))])
        content["varm"] = np.array(
            [(row,) for row in rng.normal(size=(4, 5))], dtype=[("PCs", "<f8", (5,))]
        )
        content["uns/bulk_labels_categories"] = np.array(TYPES, dtype="S9")
        content["uns/rank_genes_groups/names"] = names
    return place


def rows(split):
    return split.__getitems__(range(len(split)))


def test_types_are_labels_and_the_split_is_the_same_for_every_choice(file):
    whole = CellData(dims=5, file=file, holdout=0.3)
    assert whole.label_names == tuple(TYPES)
    everything = torch.cat([rows(s)["x_1"][:, 0] for s in (whole.train, whole.test)])
    assert sorted(everything.int().tolist()) == list(range(30))
    for place, split in (("train", whole.train), ("test", whole.test)):
        batch = rows(split)
        assert torch.equal(batch["x_1"][:, 0].long() % 3, batch["label"])
        for i, kind in enumerate(TYPES):
            own = rows(getattr(CellData([kind], 5, file=file, holdout=0.3), place))
            assert set(own) == {"x_1"}
            assert torch.equal(own["x_1"], batch["x_1"][batch["label"] == i])


def test_labels_are_numbered_in_the_order_that_was_asked_for(file):
    batch = rows(CellData(["NK", "B"], 5, file=file).train)
    assert torch.equal(batch["x_1"][:, 0].long() % 3, torch.tensor([2, 0])[batch["label"]])


def test_all_types_have_the_normalisation_of_all_training_cells(file):
    whole, one = CellData(dims=5, file=file), CellData(["NK"], 5, file=file)
    assert one.codec == whole.codec
    z = whole.codec.encode(rows(whole.train)["x_1"])
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(5), rtol=0, atol=1e-5)
    assert float(z.square().mean()) == pytest.approx(1, rel=1e-4)


def test_genes_are_what_the_loadings_make_of_components(file):
    data = CellData(["NK"], dims=3, file=file)
    with h5py.File(file) as content:
        loadings = torch.from_numpy(content["varm"]["PCs"]).float()[:, :3]
    x = torch.randn(6, 3)
    torch.testing.assert_close(data.expression(x), x @ loadings.T)
    assert data.markers("B") == [2, 3]  # in the order of the file
    assert data.markers("NK", 1) == [0]
    with pytest.raises(InputError, match="no marker genes"):
        data.markers("T")


def test_bad_input(file, tmp_path, monkeypatch):
    for words, message in (
        ({"types": ["T"]}, "types must be different ones of B, Dendritic, NK"),
        ({"types": ["B", "B"]}, "types must be different ones"),
        ({"types": []}, "types must be different ones"),
        ({"dims": 6}, r"dims must lie in 2\.\.5"),
        ({"holdout": 1.0}, "holdout"),
    ):
        with pytest.raises(InputError, match=message):
            CellData(**{"file": file, "dims": 5, **words})
    with pytest.raises(InputError, match="does not exist"):
        CellData(file=tmp_path / "nothing.h5ad")
    (tmp_path / "other.h5ad").write_text("no cells")
    with pytest.raises(InputError, match="cannot be read as cells"):
        CellData(file=tmp_path / "other.h5ad")
    monkeypatch.setattr("flowgen.data.cells.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps scanpy"):
        CellData()


@pytest.mark.skipif(importlib.util.find_spec("scanpy") is None, reason="needs the file of scanpy")
def test_the_file_of_the_package_has_its_ten_types():
    data = CellData()
    assert _file(None).is_file()
    assert data.num_classes == 10
    assert len(data.train) + len(data.test) == 700
    assert len(data.genes) == 309  # of 765, those that the components are made of
    assert bool(data.expression(data.train.__getitems__([0])["x_1"]).isfinite().all())
    assert data.markers("Dendritic")
    assert data.markers("CD19+ B")
