"""Stochastic samplers in a pipeline: where the score is known, and where it is not."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    EDMChurn,
    Euler,
    EulerMaruyama,
    Heun,
    Overshoot,
    Sampler,
    StochasticDDIM,
    StochasticHeun,
    Uniform,
    UniPC,
)
from small import built, image_config, vector_config

STOCHASTIC = [EulerMaruyama(), StochasticHeun(), StochasticDDIM(), EDMChurn(), Overshoot()]


@pytest.mark.parametrize("stepper", STOCHASTIC, ids=repr)
def test_samples_do_not_depend_on_the_chunk(stepper):
    pipeline = built(image_config()).with_sampler(Sampler(stepper, Uniform(), 4))
    whole = pipeline.sample(5, seed=3, decode=False)
    torch.testing.assert_close(
        pipeline.sample(5, seed=3, chunk=2, decode=False), whole, rtol=0, atol=1e-5
    )
    assert torch.equal(pipeline.sample(5, seed=3, decode=False), whole)
    ode = built(image_config()).with_sampler(Sampler(Euler(), Uniform(), 4))
    assert not torch.allclose(ode.sample(5, seed=3, decode=False), whole, atol=1e-2)
    assert pipeline.nfe() in (4, 7)
    with pytest.raises(InputError, match="cannot be undone"):
        pipeline.encode(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), label=1)


def test_refused_where_noise_and_data_are_tied():
    pipeline = built(vector_config())
    sampler = Sampler(EulerMaruyama(), Uniform(), 3)
    pipeline.about = {"name": "a", "score_valid": True}
    assert len(pipeline.with_sampler(sampler).sample(2)) == 2
    pipeline.about = {"name": "a", "score_valid": False}
    message = r"EulerMaruyama needs the score.*coupling of its training.*sampler=heun, or train"
    with pytest.raises(InputError, match=message):
        pipeline.with_sampler(sampler)
    assert len(pipeline.with_sampler(Sampler(Heun(), Uniform(), 3)).sample(2)) == 2
    pipeline.about = {"name": "written before this was said"}
    with pytest.raises(InputError, match="does not say how noise and data were coupled"):
        pipeline.with_sampler(sampler)
    pipeline.sampler = sampler  # as a file may say
    with pytest.raises(InputError, match="needs the score"):
        pipeline.sample(2)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"_target_": "flowgen.data.Gaussian", "shape": [2], "std": 2.0}, "Gaussian"),
        ({"_target_": "flowgen.data.Moons"}, "Moons"),
    ],
)
def test_refused_for_other_sources(source, told):
    pipeline = built(vector_config() | {"source": source})
    with pytest.raises(InputError, match=f"standard Gaussian source, this model starts.* {told}:"):
        pipeline.with_sampler(Sampler(StochasticDDIM(), Uniform(), 3))


def test_exponential_methods_work_guided():
    pipeline = built(image_config()).with_sampler(Sampler(UniPC(2), Uniform(), 4))
    guided = pipeline.guided(2.0)
    assert guided.nfe() == 4
    assert not torch.allclose(
        guided.sample(2, decode=False), pipeline.sample(2, decode=False), atol=1e-3
    )
