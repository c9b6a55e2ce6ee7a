"""Fashion-MNIST: 60 000 + 10 000 grey 28x28 images of clothes in 10 balanced classes.

The four files are looked for in a folder of the user's, else where the Debian package
``dataset-fashion-mnist`` puts them, else in the cache; they are downloaded only when asked for.
"""

from pathlib import Path

import torch
from torch import Tensor

from flowgen.core import InputError, cache_folder
from flowgen.data.arrays import ImageData
from flowgen.data.download import download
from flowgen.data.idx import read_idx

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
LABEL_NAMES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# SHA-256 of the published files, whose published MD5 sums were checked together with these.
SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
    ),
}


class FashionMNIST(ImageData):
    """Fashion-MNIST with its own train and test parts.

    Args:
        root: Folder with the four IDX files (``.gz`` or unpacked). None looks in the Debian
            package, then in the cache (``$FLOWGEN_CACHE``, else ``~/.cache/flowgen``).
        download: Whether to fetch missing files into ``root`` (or the cache).
        flip: Mirror training images left to right at random.
        seed: Of the augmentation, until a loader sets its own.

    Raises:
        InputError: If files are missing, damaged or not those of Fashion-MNIST, or the download
            failed.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        download: bool = False,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        folder = _locate(None if root is None else Path(root).expanduser(), download)
        train, train_labels = _read_part(folder, "train")
        test, test_labels = _read_part(folder, "t10k")
        super().__init__(
            "fashion_mnist",
            train,
            test,
            train_labels=train_labels,
            test_labels=test_labels,
            label_names=LABEL_NAMES,
            flip=flip,
            seed=seed,
        )


def _find(folder: Path, name: str) -> Path | None:
    """Return the file ``name`` of ``folder``, packed or not, or None."""
    candidates = (folder / name, folder / name.removesuffix(".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _missing(folder: Path) -> list[str]:
    return [name for name in SHA256 if _find(folder, name) is None]


def _locate(root: Path | None, fetch: bool) -> Path:
    """Return a folder that has all four files, after a download if that was asked for."""
    cache = cache_folder() / "fashion-mnist"
    folders = [DEBIAN_FOLDER, cache] if root is None else [root]
    for folder in folders:
        if not _missing(folder):
            return folder
    target = root or cache
    if fetch:
        for name in _missing(target):
            download(URL + name, target / name, sha256=SHA256[name])
        return target
    raise InputError(
        f"Fashion-MNIST is not in {' or '.join(map(str, folders))} (missing there: "
        f"{', '.join(_missing(target))}): install the Debian package dataset-fashion-mnist, "
        "give root=<folder with the files>, or set download=true"
    )


def _read_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return images ``(n, 1, h, w)`` uint8 and labels ``(n,)`` int64 of one part."""
    files = [_find(folder, name) for name in SHA256 if name.startswith(part)]
    images_path, labels_path = (path for path in files if path is not None)
    images = read_idx(images_path, num_axes=3)
    labels = read_idx(labels_path, num_axes=1).to(torch.int64)
    if len(images) != len(labels):
        raise InputError(
            f"{images_path} has {len(images)} images but {labels_path} has {len(labels)} labels"
        )
    return images.unsqueeze(1), labels
