"""Sampling: seeds, chunks, labels, guidance, encoding."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import Euler, Sampler, Uniform
from small import built, image_config, vector_config


@pytest.fixture(scope="module")
def images():
    return built(image_config())


@pytest.fixture(scope="module")
def points():
    return built(vector_config())


def test_samples_are_in_data_space(images, points):
    assert images.sample(3).dtype == torch.uint8
    assert images.sample(3, decode=False).dtype == torch.float32
    raw = points.sample(5, decode=False)
    expected = raw * 3.0 + torch.tensor([1.0, -2.0])
    assert torch.allclose(points.sample(5), expected, atol=1e-6)


def test_same_seed_same_samples_whatever_the_chunk(images):
    whole = images.sample(7, seed=3, decode=False)
    for chunk in (1, 2, 7, 100):
        part = images.sample(7, seed=3, chunk=chunk, decode=False)
        # Rounding of matrix products depends on the batch size; the noise does not.
        assert torch.allclose(whole, part, atol=1e-5)
    assert torch.equal(whole, images.sample(7, seed=3, decode=False))
    assert not torch.allclose(whole, images.sample(7, seed=4, decode=False), atol=0.1)


def test_a_sample_does_not_depend_on_how_many_are_drawn(points):
    assert torch.allclose(points.sample(2), points.sample(9)[:2], atol=1e-5)


def test_every_class_in_turn_unless_labels_are_given(images):
    assert images.labels(5).tolist() == [0, 1, 2, 0, 1]
    assert images.labels(3, 2).tolist() == [2, 2, 2]
    assert images.labels(5, ["cow", "ant"]).tolist() == [2, 0, 2, 0, 2]
    one, all_ = images.sample(3, label=1, decode=False), images.sample(3, decode=False)
    assert torch.allclose(one[1], all_[1], atol=1e-5)
    assert not torch.allclose(one[0], all_[0], atol=1e-3)


@pytest.mark.parametrize("label", [3, -1, "dog", [0, 9]])
def test_unknown_labels_are_refused(images, label):
    with pytest.raises(InputError):
        images.sample(4, label=label)


def test_labels_and_guidance_need_a_conditional_model(points):
    with pytest.raises(InputError, match="unconditional"):
        points.sample(2, label=1)
    with pytest.raises(InputError, match=r"guidance\.scale=2\.0 needs a label-conditional"):
        points.guided(2.0)
    assert torch.equal(points.guided(1.0).sample(2), points.sample(2))


@pytest.mark.parametrize("bad", [{"num_samples": 0}, {"chunk": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(points, bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        points.sample(**({"num_samples": 2} | bad))


def test_guidance_extrapolates_from_the_null_label(images):
    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0.3, 0.6])
    label = {"label": torch.tensor([0, 2])}
    images.eval()
    conditional = images.field(x, t, label)
    null = images.field(x, t, images.conditioner.null(2))
    guided = images.guided(2.5).velocity()(x, t, label)
    assert torch.allclose(guided, null + 2.5 * (conditional - null), atol=1e-5)
    assert images.guided(1.0).velocity() is images.field


def test_one_euler_step_is_the_source_plus_the_velocity(points):
    one = points.with_sampler(Sampler(Euler(), Uniform(), 1))
    x_0 = one.noise(0, range(4))
    with torch.no_grad():
        expected = x_0 + one.field(x_0, torch.zeros(4))
    assert torch.allclose(one.sample(4, decode=False), expected, atol=1e-6)
    assert points.sampler.num_steps == 4


def test_encode_inverts_sample(points, images):
    fine = points.with_sampler(points.sampler.with_num_steps(200))
    samples = fine.sample(6, seed=5)
    assert torch.allclose(fine.encode(samples), fine.noise(5, range(6)), atol=1e-3)
    with pytest.raises(InputError, match="needs label="):
        images.encode(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))


def test_nfe_counts_evaluations_of_the_field(points, images):
    assert points.nfe() == 8
    assert images.with_sampler(Sampler(Euler(), Uniform(), 5)).nfe() == 5


def test_sampling_restores_training_mode(images):
    images.field.train()
    images.sample(1)
    assert images.field.training
    images.field.eval()


def test_shape_is_that_of_a_sample(images, points):
    assert images.shape == (1, 4, 4)
    assert points.shape == (2,)


def test_sampling_starts_at_the_noise_level_where_the_path_begins():
    """EDM's path begins at sigma = 80/81: one Euler step starts from that multiple of x_0."""
    config = vector_config()
    config["field"]["path"]["schedule"] = {"_target_": "flowgen.paths.EDM"}
    pipeline = built(config).with_sampler(Sampler(Euler(), Uniform(), 1))
    assert pipeline.initial_scale == pytest.approx(80 / 81, rel=1e-6)
    start = pipeline.noise(0, range(3)) * (80 / 81)
    with torch.no_grad():
        expected = start + pipeline.field(start, torch.zeros(3))
    assert torch.allclose(pipeline.sample(3, decode=False), expected, rtol=1e-4)
