import pytest
import torch

from flowgen.core import InputError
from flowgen.metrics import psnr, rmse, ssim


def images(generator, n=3, side=16):
    return torch.randint(0, 256, (n, 1, side, side), generator=generator, dtype=torch.uint8)


def test_rmse_is_over_all_entries():
    assert rmse(torch.zeros(2, 3), torch.tensor([[2.0, 0, 0], [0, 0, 1.0]])) == pytest.approx(
        (5 / 6) ** 0.5
    )


def test_psnr_of_one_grey_level_and_of_equal_images():
    x = torch.full((2, 1, 4, 4), 100, dtype=torch.uint8)
    assert psnr(x, x + 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(x, x) == 100
    # A mean over images, not of the error over images.
    assert psnr(torch.cat([x, x]), torch.cat([x, x + 1])) == pytest.approx(
        (100 + 48.1308) / 2, 1e-4
    )


def test_ssim_of_flat_images_is_that_of_their_means():
    # Without variance: (2 a b + c) / (a^2 + b^2 + c) with c = (0.01 * 255)^2.
    a = torch.full((1, 1, 16, 16), 100, dtype=torch.uint8)
    b = torch.full((1, 1, 16, 16), 60, dtype=torch.uint8)
    c = 2.55**2
    assert ssim(a, b) == pytest.approx((2 * 6000 + c) / (10000 + 3600 + c), abs=1e-6)


def test_ssim_falls_with_noise(generator):
    x = images(generator)
    noise = torch.randint(0, 40, x.shape, generator=generator, dtype=torch.uint8)
    assert ssim(x, x) == pytest.approx(1)
    assert ssim(x, (x // 2 + noise)) < 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rmse(x.float(), x[:1].float()), "one shape"),
        (lambda x: psnr(x, x[:1]), "one shape"),
        (lambda x: ssim(x[..., :8], x[..., :8]), "11 pixels"),
        (lambda x: rmse(x[:0].float(), x[:0].float()), "at least 1"),
    ],
)
def test_misfits_are_refused(call, message, generator):
    x = images(generator)
    with pytest.raises(InputError, match=message):
        call(x)
