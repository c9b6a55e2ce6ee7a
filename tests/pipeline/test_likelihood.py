"""Likelihoods of whole pipelines, in data space."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.data import Gaussian, Mixture, Pixels, Standardize
from flowgen.integrators import RK4, Hutchinson, Sampler, Uniform
from small import built, image_config, vector_config

SAMPLER = Sampler(RK4(), Uniform(), 20)


@pytest.mark.parametrize("prediction", ["Velocity", "Data", "Noise"])
def test_density_on_the_plane_integrates_to_one(prediction):
    config = vector_config()
    config["field"]["prediction"] = {"_target_": f"flowgen.paths.{prediction}"}
    config["field"]["t_eps"] = 0.05
    config["codec"]["std"] = [0.5, 2.0]
    pipeline = built(config)
    with torch.no_grad():
        for parameter in pipeline.field.parameters():
            parameter.mul_(0.3)
    samples = pipeline.with_sampler(SAMPLER).sample(200).detach()
    low, high = samples.amin(0), samples.amax(0)
    middle, reach = (low + high) / 2, (high - low)
    axes = [
        torch.linspace(float(m - r), float(m + r), 60) for m, r in zip(middle, reach, strict=True)
    ]
    log_p = pipeline.log_likelihood(torch.cartesian_prod(*axes), sampler=SAMPLER, chunk=4000)
    area = math.prod(float(axis[1] - axis[0]) for axis in axes)
    assert float(log_p.double().exp().sum()) * area == pytest.approx(1, abs=0.01)


def still(config):
    """A pipeline whose field is zero: the density of the data is that of the source."""
    pipeline = built(config)
    with torch.no_grad():
        for parameter in pipeline.field.parameters():
            parameter.zero_()
    return pipeline


def test_bits_of_an_image_under_the_source_alone():
    pipeline = still(image_config())
    x = torch.randint(128, 256, (300, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    x = x.to(torch.uint8)
    nats = pipeline.log_likelihood(
        x, label=[0], sampler=Sampler(RK4(), Uniform(), 1), seed=5, divergence=Hutchinson()
    )
    bits = float(-nats.mean() / (16 * math.log(2)))
    # E over the uniform noise of width w around z: log N = -(z^2 + w^2/12)/2 - log(2 pi)/2
    width = 1 / 127.5
    z = x.double() / 127.5 - 1
    mean = float((z.square() + width**2 / 12).mean()) / 2 + math.log(2 * math.pi) / 2
    expected = mean / math.log(2) + math.log2(127.5)
    assert bits == pytest.approx(expected, abs=2e-4)


def test_row_depends_on_its_number_and_not_on_the_chunk():
    pipeline = built(image_config())
    x = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8)
    labels = [0, 1, 2, 0, 1, 2, 0]

    def nats(rows, **changes):
        settings = {"sampler": SAMPLER, "divergence": Hutchinson(), "seed": 2} | changes
        chosen = [labels[i] for i in rows]
        return pipeline.log_likelihood(x[list(rows)], label=chosen, first=rows.start, **settings)

    whole = nats(range(7))
    assert torch.allclose(whole, nats(range(7), chunk=2), atol=1e-3)
    assert torch.allclose(whole[4:], nats(range(4, 7)), atol=1e-3)
    assert not torch.allclose(whole, nats(range(7), seed=3), atol=1e-3)


def test_exact_is_the_mean_of_estimates():
    pipeline = built(image_config(None) | {"codec": {"_target_": "flowgen.data.Identity"}})
    x = 0.3 * torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    exact = pipeline.log_likelihood(x, sampler=SAMPLER)
    many = pipeline.log_likelihood(
        x.repeat(600, 1, 1, 1), sampler=SAMPLER, divergence=Hutchinson(), chunk=600
    )
    assert float(many.mean()) == pytest.approx(
        float(exact), abs=4 * float(many.std()) / math.sqrt(600)
    )


def test_guidance_is_that_of_the_sampled_flow():
    pipeline = built(image_config())
    x = torch.full((2, 1, 4, 4), 90, dtype=torch.uint8)
    plain = pipeline.log_likelihood(x, label=1, sampler=SAMPLER)
    guided = pipeline.guided(3.0).log_likelihood(x, label=1, sampler=SAMPLER)
    assert not torch.allclose(plain, guided, atol=0.1)
    assert not pipeline.field.network.condition.training or pipeline.field.training


def test_sources_and_codecs_know_their_densities():
    x = torch.tensor([[1.0, -2.0], [0.3, 0.4]])
    expected = torch.distributions.Normal(0, 1.5).log_prob(x).sum(1)
    assert torch.allclose(Gaussian((2,), std=1.5).log_prob(x), expected)
    with pytest.raises(InputError, match="shape"):
        Gaussian((3,)).log_prob(x)
    for codec, shape in (
        (Standardize([0.0, 1.0], [0.5, 3.0]), (2,)),
        (Standardize(0.0, 2.0), (3, 2)),
        (Standardize([0.0, 1.0], [0.5, 3.0]), (2, 2, 2)),
    ):
        size = math.prod(shape)
        jacobian = torch.autograd.functional.jacobian(
            lambda v, c=codec, s=shape: c.encode(v.reshape(1, *s)).flatten(), torch.zeros(size)
        )
        assert codec.log_det(shape) == pytest.approx(float(jacobian.slogdet().logabsdet), abs=1e-6)
    one, zero = (Pixels().encode(torch.full((1, 1, 1, 1), v, dtype=torch.uint8)) for v in (1, 0))
    assert Pixels().log_det((2, 3, 3)) == pytest.approx(18 * math.log(float(one - zero)), rel=1e-5)


class Unknown:
    def sample(self, n, *, generator=None, device=None):
        return torch.randn(n, 2, generator=generator)


def test_what_has_no_density_is_told():
    pipeline = built(vector_config())
    pipeline.source = Unknown()
    with pytest.raises(InputError, match="Unknown has no density"):
        pipeline.log_likelihood(torch.zeros(1, 2))
    pipeline.source = Mixture([[0.0, 0.0]], 1.0)
    assert pipeline.log_likelihood(torch.zeros(1, 2), sampler=SAMPLER).isfinite().all()
    with pytest.raises(InputError, match="needs label="):
        built(image_config()).log_likelihood(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
