"""Sampling that skips the first part of the way: transport takes noise to a noised training sample.

Training samples are noised to a late time once, ``z_j = alpha y_j + sigma e_j``, and semidiscrete
transport from the source to the ``z_j`` is fitted. A noise ``x_0`` then starts at the ``z_j`` whose
cell it falls into, and only the rest of the way is integrated.

The states it starts from are as many as the training set has samples. Late in the flow little of
them changes any more, so what is generated are near copies of training samples: the later the
start, the fewer steps and the nearer the copies.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from flowgen.core import Condition, InputError
from flowgen.couplings.semidiscrete import cell_of

_FORMAT = "1"


def save_expressway(
    path: Path,
    time: float,
    target: Float[Tensor, "n *d"],
    potential: Float[Tensor, " n"],
    label: Int[Tensor, " n"] | None,
) -> None:
    """Write what :class:`Expressway` reads.

    Args:
        path: Of the safetensors file.
        time: Of the targets, in (0, 1).
        target: Noised training samples in the model's space, ``(n, *d)``.
        potential: Of semidiscrete transport to them, ``(n,)``; inside each class where labels are.
        label: Their classes ``(n,)``, for a conditional model, or None.

    Raises:
        InputError: If ``time`` is not in (0, 1).
    """
    if not 0 < time < 1:
        raise InputError(f"the time of the start must be in (0, 1), got {time}")
    tensors = {"target": target.float().contiguous().cpu(), "potential": potential.float().cpu()}
    if label is not None:
        tensors["label"] = label.long().contiguous().cpu()
    save_file(tensors, path, {"flowgen_expressway": _FORMAT, "time": repr(time)})


class Expressway:
    """Starts each noise at the target whose cell it falls into; see :class:`Start`.

    Args:
        file: Of ``flowgen fit-expressway``, for the same checkpoint.

    Attributes:
        time: Of the targets.

    Raises:
        InputError: If the file cannot be used.

    Source: Li et al. 2023, arXiv 2307.11308 (DPM-OT); noise is counted in the cells where it is
        Gaussian, as it is drawn.
    """

    def __init__(self, file: str | Path) -> None:
        place = Path(file).expanduser()
        if not place.is_file():
            raise InputError(
                f"no file at '{place}': make it by flowgen fit-expressway checkpoint=<run>"
            )
        try:
            with safe_open(place, framework="pt") as content:
                about = content.metadata() or {}
                if about.get("flowgen_expressway") != _FORMAT:
                    raise InputError(f"{place} holds no targets of flowgen fit-expressway")
                self.time = float(about["time"])
                self.target = content.get_tensor("target")
                self.potential = content.get_tensor("potential")
                labelled = "label" in set(content.keys())
                self.label = content.get_tensor("label") if labelled else None
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{place} holds no targets, or is damaged") from error

    @torch.no_grad()
    def __call__(
        self, x_0: Float[Tensor, "b *d"], cond: Condition | None = None
    ) -> Float[Tensor, "b *e"]:
        """Return the targets at :attr:`time`; of the class of each row where there are labels.

        Args:
            x_0: Standard source samples ``(b, *d)``.
            cond: Conditions of the rows.

        Raises:
            InputError: If shape or conditions are not those of the checkpoint it was fitted for.
        """
        if x_0.shape[1:] != self.target.shape[1:]:
            raise InputError(
                f"the expressway leads to samples of shape {tuple(self.target.shape[1:])}, the "
                f"model makes {tuple(x_0.shape[1:])}: fit it for this checkpoint"
            )
        labels = None if cond is None else cond.get("label")
        if (labels is None) != (self.label is None):
            raise InputError(
                "the expressway was fitted for a model with labels, or without, and this one is "
                "not: fit it for this checkpoint"
            )
        self._move(x_0.device)
        if labels is None or self.label is None:
            return self.target[cell_of(x_0, self.target, self.potential)].to(x_0)
        out = torch.empty_like(x_0)
        for value in labels.unique():
            rows = labels == value
            members = (self.label == value).nonzero()[:, 0]
            if len(members) == 0:
                raise InputError(f"class {int(value)} has no sample in the training set")
            target = self.target[members]
            out[rows] = target[cell_of(x_0[rows], target, self.potential[members])].to(x_0)
        return out

    def _move(self, device: torch.device) -> None:
        if self.target.device != device:
            self.target = self.target.to(device)
            self.potential = self.potential.to(device)
            self.label = None if self.label is None else self.label.to(device)
