"""How conditions enter a network: one vector ``c (b, width)``, and tokens for those who read text.

Classes travel as ``cond["label"]``, or under another name, int64 of shape ``(b,)``; the number of
classes itself is the null class, which means "no condition". Text travels as the states of its
tokens, ``cond["text"] (b, l, text_width)``, with ``cond["text_mask"] (b, l)``, true where there is
a token; no text is one token that an encoder has for it. The vector is the sum of the embeddings of
the time and of every condition: a new condition is one more summand.
"""

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from flowgen.core import Condition, InputError, check_values, is_shared
from flowgen.models.checks import check_positive
from flowgen.models.time_embedding import TimeEmbedding

TEXT, TEXT_MASK, INTERVAL, GUIDANCE = "text", "text_mask", "interval", "guidance"
"""Names of conditions that are no classes."""

TOLD = (INTERVAL, GUIDANCE)
"""What a student is told beside its teacher."""

Classes = int | Mapping[str, int] | None
"""How many classes: of ``label``, of each name, or None for none."""


class LabelEmbedding(nn.Module):
    """Table of ``num_classes + 1`` rows of size ``width``; the last row is the null label's.

    Args:
        num_classes: Number of labels, at least 1.
        width: Size of one row, at least 1.

    Raises:
        InputError: If an argument is not positive.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        check_positive(num_classes=num_classes, width=width)
        self.num_classes = num_classes
        self.table = nn.Embedding(num_classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, label: Tensor) -> Float[Tensor, "b width"]:
        """Return the rows of ``label``, int64 of shape ``(b,)``, shape ``(b, width)``.

        Raises:
            InputError: If ``label`` is not a vector of int64.
        """
        if label.ndim != 1 or label.dtype != torch.int64:
            raise InputError(
                f"label must be int64 of shape (b,), got {label.dtype} of {tuple(label.shape)}"
            )
        if not torch.compiler.is_compiling():
            check_values("label", label, low=0, high=self.num_classes)
        return self.table(label)


class TextEmbedding(nn.Module):
    """One vector of a text: the mean of its tokens through a two-layer network.

    Args:
        text_width: Features of a token, at least 1.
        width: Size of the vector, at least 1.
    """

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        check_positive(text_width=text_width, width=width)
        self.text_width = text_width
        self.project = nn.Linear(text_width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, text: Float[Tensor, "b l k"], mask: Bool[Tensor, "b l"]
    ) -> Float[Tensor, "b width"]:
        """Return the vector of each text, shape ``(b, width)``.

        Args:
            text: Token states, shape ``(b, l, text_width)``.
            mask: True where there is a token, at least once in each row.
        """
        weight = mask.unsqueeze(-1).to(self.project.weight.dtype)
        total = (text.to(weight.dtype) * weight).sum(dim=1) / weight.sum(dim=1)
        return self.out(functional.silu(self.project(total)))


class ScaleEmbedding(TimeEmbedding):
    """The embedding of a scale of guidance ``w``, smooth in ``log(1 + w)``.

    Args:
        width: Size of the embedding, at least 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, max_frequency=10.0)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "#b width"]:
        """Return the embedding of scales ``(b,)``, at least 0; one row where all rows share it."""
        return super().forward((t[:1] if is_shared(t) else t).log1p())


class ConditionEmbedding(nn.Module):
    """The vector ``c = time(t) + label(cond["label"]) + ...`` of a network.

    A flow map also knows how far it leads: ``cond["interval"]``, a number for each row. Its
    embedding starts at zero, so that a velocity's weights give a map that leads along the velocity.
    So does that of the scale of guidance, ``cond["guidance"]``, of a student that is told it.

    Args:
        num_classes: Number of labels, or of the classes of each name, or None for none.
        width: Size of ``c``.
        text_width: Features of a token of text, or None for a network without text.
        interval: Whether the length of a jump is a condition.
        guided: Whether the scale of guidance is one.
        max_frequency: Of the embeddings of times, see :class:`TimeEmbedding`.

    Raises:
        InputError: If a number is not positive, or classes have a name that is taken.
    """

    def __init__(
        self,
        num_classes: Classes,
        width: int,
        *,
        text_width: int | None = None,
        interval: bool = False,
        guided: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        self.time = TimeEmbedding(width, max_frequency=max_frequency)
        self.embeddings = nn.ModuleDict()
        for name, count in classes_by_name(num_classes).items():
            self.embeddings[name] = LabelEmbedding(count, width)
        if text_width is not None:
            self.embeddings[TEXT] = TextEmbedding(text_width, width)
        if interval:
            self.embeddings[INTERVAL] = TimeEmbedding(width, max_frequency=max_frequency)
        if guided:
            self.add_guidance()
        self.zero_told()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the conditions that must be given."""
        text = (TEXT_MASK,) if TEXT in self.embeddings else ()
        return (*self.embeddings, *text)

    def zero_told(self) -> None:
        """Let what a student is told beside its teacher change nothing, as at the beginning."""
        for name in TOLD:
            if name in self.embeddings:
                silence(cast("TimeEmbedding", self.embeddings[name]))

    def add_classes(self, name: str, count: int) -> None:
        """Add one more condition of ``count`` classes, which changes nothing at the start."""
        self.embeddings[name] = silent_classes(count, self.time.out.out_features)

    def add_guidance(self) -> None:
        """Add the scale of guidance, which changes nothing at the start."""
        self.embeddings[GUIDANCE] = silence(ScaleEmbedding(self.time.out.out_features))

    def forward(self, t: Float[Tensor, " b"], cond: Condition | None) -> Float[Tensor, "#b width"]:
        """Return ``c`` of shape ``(b, width)``, or ``(1, width)`` where it is one for all rows.

        Args:
            t: Times, shape ``(b,)``, in ``[0, 1]``.
            cond: Exactly the conditions the network was built for; None or empty for none.

        Raises:
            InputError: If conditions are missing, unknown, or have another number of rows.
        """
        first, *others = self.vectors(t, cond)
        for vector in others:
            first = first + vector
        return first

    def vectors(
        self, t: Float[Tensor, " b"], cond: Condition | None
    ) -> list[Float[Tensor, "#b width"]]:
        """Return the vectors of the time and of every condition, see :meth:`forward`."""
        given = cond or {}
        self._check(t, given)
        found = [self.time(t)]
        for name, embedding in self.embeddings.items():
            if name == TEXT:
                found.append(embedding(given[TEXT], given[TEXT_MASK]))
            else:
                found.append(embedding(given[name]))
        return found

    def _check(self, t: Tensor, given: Condition) -> None:
        if unknown := [name for name in given if name not in self.names]:
            raise InputError(
                f"condition {unknown} given to a network built "
                + (f"for {list(self.names)}" if self.names else "without conditions")
                + ": leave it out, or build the network with num_classes or text_width"
            )
        for name in self.names:
            if name not in given:
                raise InputError(
                    f"condition '{name}' is missing: pass cond={{'{name}': ...}}, "
                    "with the null label (num_classes) for an unconditional sample"
                )
            if given[name].shape[:1] != t.shape:
                raise InputError(
                    f"condition '{name}' has shape {tuple(given[name].shape)} for {len(t)} samples"
                )
        if TEXT in given:
            width = cast("TextEmbedding", self.embeddings[TEXT]).text_width
            text, mask = given[TEXT], given[TEXT_MASK]
            if text.ndim != 3 or text.shape[-1] != width or mask.shape != text.shape[:2]:
                raise InputError(
                    f"text must have shape (b, l, {width}) and text_mask (b, l), got "
                    f"{tuple(text.shape)} and {tuple(mask.shape)}"
                )
            if mask.dtype != torch.bool:
                raise InputError(f"text_mask must be bool, got {mask.dtype}")


def silent_classes(count: int, width: int) -> nn.Embedding:
    """Return a table ``(count, width)`` of zeros: classes that change nothing at the start."""
    table = nn.Embedding(count, width)
    nn.init.zeros_(table.weight)
    return table


def silence(embedding: TimeEmbedding) -> TimeEmbedding:
    """Return the embedding with its last layer at zero."""
    nn.init.zeros_(embedding.out.weight)
    nn.init.zeros_(embedding.out.bias)
    return embedding


def classes_by_name(num_classes: Classes) -> dict[str, int]:
    """Return the number of classes of each name; a number alone is that of ``label``.

    Raises:
        InputError: If a name is taken by another kind of condition.
    """
    if num_classes is None:
        return {}
    if isinstance(num_classes, int):
        return {"label": num_classes}
    others = (TEXT, TEXT_MASK, INTERVAL, GUIDANCE)
    if taken := [name for name in num_classes if name in others]:
        raise InputError(f"classes cannot be named {taken}: text, intervals and guidance are")
    return dict(num_classes)
