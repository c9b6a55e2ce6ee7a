"""Pictures and files of samples hold what was drawn."""

import numpy as np
import pytest
import torch
from PIL import Image

from flowgen.core import InputError
from flowgen.pipeline import grid, save_image, save_picture
from flowgen.pipeline.outputs import writer


def picture(path):
    with Image.open(path) as opened:
        return torch.from_numpy(np.asarray(opened).copy())


def test_grid_puts_images_in_rows_with_a_gap_between():
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1) * 10
    whole = grid(images, 3, min_side=2, padding=1)
    expected = torch.full((7, 10), 255)
    for i in range(5):
        row, column = 1 + 3 * (i // 3), 1 + 3 * (i % 3)
        expected[row : row + 2, column : column + 2] = 10 * i
    assert torch.equal(whole[0].long(), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_the_pixels(tmp_path, channels):
    image = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    save_image(image, tmp_path / "a.png")
    read = picture(tmp_path / "a.png")
    assert torch.equal(read, image[0] if channels == 1 else image.permute(1, 2, 0))


def test_arrays_hold_samples_and_labels(tmp_path):
    samples = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    labels = torch.tensor([2, 0, 1])
    writer(tmp_path / "a.npz")(samples, labels)
    with np.load(tmp_path / "a.npz") as read:
        assert np.array_equal(read["samples"], samples.numpy())
        assert np.array_equal(read["labels"], labels.numpy())
    writer(tmp_path / "b.npz")(samples, None)
    with np.load(tmp_path / "b.npz") as read:
        assert list(read) == ["samples"]
    writer(tmp_path / "c.pt")(samples, labels)
    read = torch.load(tmp_path / "c.pt", weights_only=True)
    assert torch.equal(read["samples"], samples)
    assert torch.equal(read["labels"], labels)


def test_folder_holds_one_png_for_each_sample(tmp_path):
    samples = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    writer(tmp_path / "out")(samples, torch.tensor([7, 1]))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["00000_label7.png", "00001_label1.png"]
    assert torch.equal(picture(tmp_path / "out" / names[1]), samples[1].permute(1, 2, 0))
    writer(tmp_path / "plain")(samples, None)
    assert (tmp_path / "plain" / "00001.png").is_file()


def test_points_become_a_scatter_plot(tmp_path):
    save_picture(torch.randn(50, 2), tmp_path / "a.png", title="step 3")
    assert picture(tmp_path / "a.png").float().std() > 0


def test_of_more_coordinates_the_first_two_are_plotted(tmp_path):
    points = torch.randn(50, 4)
    save_picture(points, tmp_path / "a.png")
    other = torch.cat([points[:, :2], torch.randn(50, 2)], dim=1)
    save_picture(other, tmp_path / "c.png")
    assert torch.equal(picture(tmp_path / "a.png"), picture(tmp_path / "c.png"))


def test_what_cannot_be_written_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"give a \.png, \.npz or \.pt"):
        writer(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="columns must be >= 1"):
        writer(tmp_path / "a.png", columns=0)
    with pytest.raises(InputError, match="cannot be drawn"):
        writer(tmp_path / "a.png")(torch.randn(3, 5, 4), None)
    with pytest.raises(InputError, match="only images go into a folder"):
        writer(tmp_path / "out")(torch.randn(3, 2), None)
    assert list(tmp_path.iterdir()) == []
