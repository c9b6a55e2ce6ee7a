import base64
from io import BytesIO

import numpy as np
from PIL import Image

from flowgen.report.pictures import MOST_BYTES, chosen, picture
from run_folders import png


def test_choice_is_even_and_keeps_the_ends():
    steps = list(range(0, 100_000, 50))
    kept = chosen(steps, 40)
    assert len(kept) == len(set(kept)) == 40
    assert (kept[0], kept[-1]) == (steps[0], steps[-1])
    gaps = np.diff(kept)
    assert gaps.max() - gaps.min() <= 50
    assert chosen([1, 2, 3]) == [1, 2, 3]
    assert chosen(list(range(41)), 40) == [*range(20), *range(21, 41)]


def test_a_small_picture_travels_as_it_is(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    made = picture(path)
    assert (made.width, made.height) == (8, 6)
    assert base64.b64decode(made.uri.removeprefix("data:image/png;base64,")) == png(7)


def test_a_picture_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    first = picture(path)
    path.write_bytes(png(7, width=20))
    assert picture(path) != first


def test_a_large_picture_is_reduced(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 2400, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).resize((2400, 1200)).save(path)
    made = picture(path)
    content = base64.b64decode(made.uri.removeprefix("data:image/jpeg;base64,"))
    assert len(content) < 1.5 * MOST_BYTES  # noise is the worst there is
    with Image.open(BytesIO(content)) as image:
        assert image.size == (made.width, made.height)
    assert made.width == 2 * made.height


def test_what_is_no_whole_picture_is_left_out(tmp_path):
    path = tmp_path / "a.png"
    assert picture(path) is None
    for content in (b"", b"hello", png(1)[:-20], b"GIF89a" + png(1)):
        path.write_bytes(content)
        assert picture(path) is None
    path.write_bytes(png(1)[:40] + bytes(300_000) + png(1)[-12:])
    assert picture(path) is None
