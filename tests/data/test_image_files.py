import numpy as np
import pytest
import torch
from PIL import Image

from flowgen.data.image_files import find_images, read_image


def saved(tmp_path, image, name="x.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def read(path, size=(4, 4), channels=3):
    x = read_image(path, size=size, channels=channels)
    assert x.dtype == torch.uint8
    assert x.shape == (channels, *size)
    return x


def colour(x):
    """Return the one colour of an image."""
    assert bool((x == x[:, :1, :1]).all())
    return x[:, 0, 0].tolist()


def test_pixels_arrive_unchanged_at_the_stored_size(tmp_path):
    values = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(4, 5, 3)
    x = read(saved(tmp_path, Image.fromarray(values)), (4, 5))
    assert torch.equal(x, torch.from_numpy(values).permute(2, 0, 1))


ORANGE, GREY = [200, 100, 50], round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_grey_and_colour_convert_into_each_other(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (6, 6), tuple(ORANGE)))
    assert colour(read(path)) == ORANGE
    assert colour(read(path, channels=1)) == [GREY]
    path = saved(tmp_path, Image.new("L", (6, 6), 77))
    assert colour(read(path)) == [77, 77, 77]
    assert colour(read(path, channels=1)) == [77]


def test_palette(tmp_path):
    image = Image.new("P", (5, 5), 1)
    image.putpalette([0, 0, 0, *ORANGE])
    path = saved(tmp_path, image)
    assert Image.open(path).mode == "P"
    assert colour(read(path)) == ORANGE
    assert colour(read(path, channels=1)) == [GREY]


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.new("P", (5, 5), 1)
    image.putpalette([0, 0, 0, *ORANGE])
    path = saved(tmp_path, image, transparency=1)
    assert colour(read(path)) == [255, 255, 255]
    assert colour(read(path, channels=1)) == [255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(tmp_path, mode):
    pixel = (*ORANGE, 51) if mode == "RGBA" else (100, 51)
    path = saved(tmp_path, Image.new(mode, (5, 5), pixel))
    wanted = [0.2 * v + 0.8 * 255 for v in (ORANGE if mode == "RGBA" else [100] * 3)]
    assert all(abs(a - b) <= 1 for a, b in zip(colour(read(path)), wanted, strict=True))


def test_the_colour_under_full_transparency_does_not_bleed(tmp_path):
    values = np.zeros((64, 64, 4), dtype=np.uint8)
    values[:, 32:] = [0, 0, 255, 255]  # left half: transparent black
    x = read(saved(tmp_path, Image.fromarray(values)), (4, 4))
    assert x[:, :, 0].unique().tolist() == [255]


def test_16_bits_keep_black_white_and_the_middle(tmp_path):
    values = np.array([[0, 65535], [32768, 257 * 7]], dtype=np.uint16)
    path = saved(tmp_path, Image.fromarray(values))
    assert read(path, (2, 2), 1)[0].tolist() == [[0, 255], [128, 7]]
    path = saved(tmp_path, Image.fromarray(values.astype(np.int32)), "x.tif")
    assert read(path, (2, 2), 1)[0].tolist() == [[0, 255], [128, 7]]


def test_one_bit_and_cmyk(tmp_path):
    assert colour(read(saved(tmp_path, Image.new("1", (5, 5), 1)))) == [255, 255, 255]
    path = saved(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "x.tif")
    red, green, blue = colour(read(path))
    assert red > 200
    assert max(green, blue) < 60


def test_the_exif_tag_turns_the_image(tmp_path):
    values = np.zeros((8, 16, 3), dtype=np.uint8)
    values[:, :8] = 255  # stored: left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: the left side comes to the top
    x = read(saved(tmp_path, Image.fromarray(values), exif=exif), (16, 8))
    assert colour(x[:, :8]) == [255, 255, 255]
    assert colour(x[:, 8:]) == [0, 0, 0]


@pytest.mark.parametrize(("shape", "axis"), [((8, 24), 1), ((24, 8), 0)])
def test_the_centre_is_kept(tmp_path, shape, axis):
    values = np.zeros((*shape, 3), dtype=np.uint8)
    middle = [slice(None), slice(None)]
    middle[axis] = slice(8, 16)
    values[tuple(middle)] = 255
    assert colour(read(saved(tmp_path, Image.fromarray(values)), (8, 8))) == [255, 255, 255]


def test_shrinking_averages_instead_of_picking(tmp_path):
    values = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    x = read(saved(tmp_path, Image.fromarray(values)), (4, 4), 1).int()
    # A fine board of black and white has the mean 127.5; without antialias it would be 0 or 255.
    assert (x - 127).abs().max() <= 2


def test_small_images_grow(tmp_path):
    assert colour(read(saved(tmp_path, Image.new("RGB", (1, 3), tuple(ORANGE))), (6, 9))) == ORANGE


def test_a_large_photo_gives_the_same_picture_as_its_small_copy(tmp_path):
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    photo = Image.fromarray(np.broadcast_to(ramp, (640, 640)).copy())
    big = read(saved(tmp_path, photo, "x.jpg", quality=95), (16, 16), 1)
    small = read(saved(tmp_path, photo, "x.png"), (16, 16), 1)
    # JPEG at quality 95 and its own reduction move a smooth ramp by a few grey values.
    assert (big.int() - small.int()).abs().max() <= 4


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    first, second = Image.new("RGB", (5, 5), (255, 0, 0)), Image.new("RGB", (5, 5), (0, 0, 255))
    path = saved(tmp_path, first, "x.gif", save_all=True, append_images=[second])
    assert colour(read(path)) == [255, 0, 0]


def test_floats_and_32_bit_integers_have_no_known_range(tmp_path):
    path = saved(tmp_path, Image.new("F", (4, 4), 0.5), "x.tif")
    with pytest.raises(ValueError, match="32-bit floats"):
        read(path)
    path = saved(tmp_path, Image.new("I", (4, 4), 70_000), "x.tif")
    with pytest.raises(ValueError, match="32-bit integers"):
        read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("keep", [0, 9, 60, 0.5])
def test_broken_files_of_every_kind_raise_value_error(tmp_path, suffix, keep, generator):
    noise = torch.randint(256, (40, 40, 3), generator=generator, dtype=torch.uint8)
    path = saved(tmp_path, Image.fromarray(noise.numpy()), f"x{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=": "):
        read(path)


def test_images_are_found_by_suffix_in_a_fixed_order(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a/deep/er/3.webp", "a/notes.txt", ".git/4.png", "a/.5.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "6.gif").touch()
    (tmp_path / "c").symlink_to(elsewhere)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/deep/er/3.webp", "b/1.jpg", "b/2.PNG", "c/6.gif"]
