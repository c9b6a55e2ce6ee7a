"""Partners from the whole training set, inside classes where these were fitted."""

import pytest
import torch
from safetensors.torch import save_file

from flowgen.core import DataCoupling, InputError, Pair
from flowgen.couplings import Potentials, Semidiscrete, SemidiscreteSolver, cell_of, digest_of
from flowgen.couplings.potentials import told_by_noise
from flowgen.data import Gaussian, Identity, Mixture, Pixels, Standardize

DIGEST = "of some set"
SOURCE = Gaussian((3,))


@pytest.fixture
def data(generator):
    x = torch.randn(120, 3, generator=generator) * torch.tensor([2.0, 1.0, 0.5])
    return x, torch.arange(120) % 3


def made(tmp_path, data, by_label=False):
    x, label = data
    generator = torch.Generator().manual_seed(1)
    potential = torch.zeros(120)
    parts = [label == i for i in range(3)] if by_label else [torch.ones(120, dtype=torch.bool)]
    for rows in parts:
        fit = SemidiscreteSolver(threshold=0.1)(
            x[rows], lambda n: torch.randn(n, 3, generator=generator)
        )
        potential[rows] = fit.potential
    file = tmp_path / "fit.safetensors"
    Potentials(potential, by_label, DIGEST, "some", 0.1, told_by_noise(SOURCE)).save(file)
    coupling = Semidiscrete(file)
    coupling.use(x, label, DIGEST)
    return coupling, potential


def test_the_noise_stays_and_gets_its_partner_with_its_label(tmp_path, data, generator):
    coupling, potential = made(tmp_path, data)
    assert isinstance(coupling, DataCoupling)
    assert coupling.score_valid
    assert not coupling.condition_safe
    x_0 = torch.randn(40, 3, generator=generator)
    given = Pair(x_0, data[0][:40], {"label": data[1][:40]})
    pair = coupling(given)
    index = cell_of(x_0, data[0], potential)
    assert torch.equal(pair.x_0, x_0)
    assert torch.equal(pair.x_1, data[0][index])
    assert torch.equal(pair.cond["label"], data[1][index])
    assert 0 < float(pair.stats["coupling/saved"]) < 1
    assert coupling(Pair(x_0, data[0][:40])).cond is None


def test_inside_classes_the_label_that_is_asked_for_is_given(tmp_path, data, generator):
    coupling, potential = made(tmp_path, data, by_label=True)
    assert coupling.condition_safe
    x_0 = torch.randn(60, 3, generator=generator)
    asked = torch.randint(3, (60,), generator=generator)
    pair = coupling(Pair(x_0, torch.zeros(60, 3), {"label": asked}))
    assert torch.equal(pair.cond["label"], asked)
    x, label = data
    for row in range(60):
        scores = (x @ x_0[row] + potential).where(label == asked[row], -torch.inf)
        assert torch.equal(pair.x_1[row], x[scores.argmax()])


def test_every_sample_is_met_equally_often(tmp_path, data, generator):
    coupling, _ = made(tmp_path, data)
    pair = coupling(Pair(torch.randn(60_000, 3, generator=generator), torch.zeros(60_000, 3)))
    _, count = torch.unique(pair.x_1, dim=0, return_counts=True)
    assert len(count) == 120
    assert (count.double() / 500 - 1).square().mean() < 0.1 + 0.002


def test_what_does_not_fit_is_refused(tmp_path, data, generator):
    coupling, _ = made(tmp_path, data, by_label=True)
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match="another source"):
        coupling.check_source(Gaussian((3,), std=1.01))
    with pytest.raises(InputError, match="another training set"):
        coupling.use(*data, "of another set")
    with pytest.raises(InputError, match="another training set"):
        coupling.use(data[0][:50], None, DIGEST)
    with pytest.raises(InputError, match="no other condition"):
        coupling(Pair(x, x, {"text": torch.zeros(2, 4)}))
    with pytest.raises(InputError, match="weights"):
        coupling(Pair(x, x, weight=torch.ones(2)))
    with pytest.raises(InputError, match="class 7 has no sample"):
        coupling(Pair(x, x, {"label": torch.tensor([0, 7])}))
    with pytest.raises(InputError, match="call use"):
        Semidiscrete(tmp_path / "fit.safetensors")(Pair(x, x))


def test_noise_tells_sources_apart_and_not_processors(tmp_path):
    def file_of(source, factor=1.0):
        noise = told_by_noise(source) * factor
        Potentials(torch.zeros(4), False, DIGEST, "some", 0.1, noise).save(tmp_path / "a")
        return Potentials.load(tmp_path / "a")

    means, stds = [[-2.0, 0.0], [2.0, 1.0]], [0.4, 0.7]
    one, other = Mixture(means, stds, [0.5, 0.5]), Mixture(means, stds, [0.6, 0.4])
    assert file_of(one).fits(one)
    assert not file_of(one).fits(other)
    assert file_of(SOURCE).fits(Gaussian((3,)))
    assert file_of(SOURCE, 1 + 1e-6).fits(SOURCE)  # the last digits of another processor
    assert not file_of(SOURCE, 1 + 1e-3).fits(SOURCE)
    assert not file_of(SOURCE).fits(Gaussian((4,)))


def test_a_file_that_does_not_say_its_source_is_to_be_made_again(tmp_path):
    old = {"flowgen_potentials": "1", "by_label": "0", "digest": DIGEST, "data": "some"}
    save_file({"potential": torch.zeros(4)}, tmp_path / "old", {**old, "chi2": "0.1"})
    with pytest.raises(InputError, match="does not say which source it is for: make it again"):
        Potentials.load(tmp_path / "old")


def test_the_digest_depends_on_samples_labels_order_and_codec_only():
    x, label = torch.arange(12).reshape(6, 2), torch.arange(6)
    usual = Standardize([0.1, 0.2], 0.3)

    def digest(x, label, sizes, codec=usual):
        chunks = zip(x.split(sizes), label.split(sizes), strict=True)
        return digest_of(({"x_1": a, "label": b} for a, b in chunks), codec.to_config())

    assert digest(x, label, 2) == digest(x, label, 4)
    # 0.1 + 0.2 is not 0.3: sums by other threads differ as little.
    assert digest(x, label, 2) == digest(x, label, 2, Standardize([0.1, 0.2], 0.1 + 0.2))
    codecs = [Identity(), Pixels(), Standardize([0.2, 0.1], 0.3), Standardize([0.1, 0.2], 0.3001)]
    others = [digest(x, label, 2, codec) for codec in codecs]
    others += [digest(x.flip(0), label, 2), digest(x, label + 1, 2)]
    others.append(digest_of(iter([{"x_1": x}]), codecs[0].to_config()))
    assert len({digest(x, label, 2), *others}) == 8
