"""The path of discrete steps of noise, against the schedules of diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from flowgen.core import InputError
from flowgen.paths import BETAS, DiscreteDiffusion

NAMES = ["linear", "scaled_linear", "squaredcos_cap_v2"]


@pytest.mark.parametrize("betas", NAMES)
@pytest.mark.parametrize("num_steps", [50, 1000])
def test_the_share_of_data_after_each_step_is_that_of_diffusers(betas, num_steps):
    theirs = DDPMScheduler(num_steps, beta_schedule=betas, beta_start=1e-4, beta_end=0.02)
    ours = DiscreteDiffusion(num_steps, betas, 1e-4, 0.02)
    steps = torch.arange(num_steps, dtype=torch.float64)
    found = ours(1 - (steps + 1) / num_steps)
    # Theirs is in float32.
    torch.testing.assert_close(
        found.alpha.square().float(), theirs.alphas_cumprod, rtol=2e-5, atol=1e-7
    )
    torch.testing.assert_close(found.alpha.square() + found.sigma.square(), torch.ones_like(steps))


def test_no_noise_is_left_where_the_data_are():
    found = DiscreteDiffusion()(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert float(found.sigma[1]) == 0
    assert float(found.alpha[1]) == 1
    assert float(found.alpha[0]) == pytest.approx(0.0682, abs=1e-4)  # of Stable Diffusion


def test_all_names_are_known():
    assert sorted(BETAS) == sorted(NAMES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 1}, "num_steps must be >= 2"),
        ({"beta_start": 0.0}, "beta_start and beta_end must satisfy"),
        ({"beta_end": 1e-5}, "beta_start and beta_end must satisfy"),
        ({"betas": "sigmoid"}, "betas must be one of linear, scaled_linear"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        DiscreteDiffusion(**settings)
