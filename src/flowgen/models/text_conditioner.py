"""Text as a condition: captions of data, prompts of users, and no text at all.

An encoder makes token states of text; it learns nothing, so the captions of a data set are encoded
once, and so is no text. Every text has the same number of tokens, cut or filled up, so that batches
of prompts and of no text go through the network together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flowgen.core import Condition, Count, InputError
from flowgen.models.checks import check_fraction, check_positive
from flowgen.models.conditioner import emptied
from flowgen.models.conditioning import TEXT, TEXT_MASK

PROMPT = "prompt"
"""What users ask for."""

CAPTION = "caption"
"""What batches of data name the numbers of their captions."""

_NEAR = 2**28
"""Most bytes of captions that are copied to an accelerator, where taking them waits for nothing."""

_Texts = tuple[Tensor, Tensor]


@runtime_checkable
class TextEncoder(Protocol):
    """Makes token states of text; always the same ones of a text.

    One whose states change is an ``nn.Module`` with parameters that want gradients: of any other,
    the states of no text are made once and kept.

    Attributes:
        width: Features of a token.
    """

    width: int

    def __call__(
        self, texts: Sequence[str], length: int
    ) -> tuple[Float[Tensor, "n l w"], Bool[Tensor, "n l"]]:
        """Return states ``(n, length, width)`` and which of them are tokens, one at least.

        Args:
            texts: To encode; an empty one stands for no text.
            length: Tokens of each; longer texts are cut, the rest of shorter ones is zero.
        """
        ...


class TextConditioner:
    """Turns text into token states, and into those of no text.

    Args:
        encoder: Makes token states; one with a method ``table`` of the same arguments makes those
            of a data set's captions by it.
        length: Tokens of a text, at least 1.
        dropout: Share of the rows whose text training empties, in ``[0, 1)``.

    Raises:
        InputError: If a number leaves its range.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        length: int = 16,
        dropout: float = 0.1,
    ) -> None:
        check_positive(length=length)
        check_fraction("dropout", dropout)
        self.encoder = encoder
        self.length = length
        self.dropout = dropout
        self._table: _Texts | None = None
        self._tables: dict[torch.device, _Texts] = {}
        self._no_text: tuple[TextEncoder, int, dict[str, _Texts]] | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What users may ask for."""
        return (PROMPT,)

    def use(self, captions: Sequence[str] | None) -> None:
        """Encode the captions of a data set, each once.

        Args:
            captions: Batches name them by their numbers; None if the data have none.

        Raises:
            InputError: If there are none.
        """
        if not captions:
            raise InputError("the model reads text and the data have no captions")
        encode = getattr(self.encoder, "table", self.encoder)
        self._table, self._tables = encode(captions, self.length), {}

    def take(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the text of a batch of data, ``text (b, l, w)`` and ``text_mask (b, l)``.

        Args:
            batch: Holds ``caption (b,)``, the numbers of captions that :meth:`use` was given.
        """
        number = batch[CAPTION]
        states, mask = self._captions(number.device)
        rows = number.to(states.device)
        own = states[rows].to(number.device).float()
        return {TEXT: own, TEXT_MASK: mask[rows].to(number.device)}

    def rows(
        self,
        asked: Mapping[str, Any],
        numbers: Sequence[int],
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the text of samples: prompts in turn, or none.

        Args:
            asked: ``{"prompt": list of texts}`` or empty.
            numbers: Global numbers of the samples.
            device: Where the condition lives.

        Raises:
            InputError: If a prompt is no text.
        """
        prompts = asked.get(PROMPT, ())
        if wrong := [prompt for prompt in prompts if not isinstance(prompt, str)]:
            raise InputError(f"a prompt must be text, got {wrong[0]!r}")
        if not prompts:
            return self.null(len(numbers), device)
        # Each text is encoded once, however many samples it is for.
        own = [prompts[number % len(prompts)] for number in numbers]
        different = list(dict.fromkeys(own))
        states, mask = self.encoder(different, self.length)
        index = torch.tensor([different.index(text) for text in own])
        return {TEXT: states[index].to(device), TEXT_MASK: mask[index].to(device)}

    def null(self, n: Count, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """Return the condition of no text, for ``n`` samples."""
        states, mask = self._empty(device)
        return {TEXT: states.expand(n, -1, -1), TEXT_MASK: mask.expand(n, -1)}

    def drop(
        self, cond: Condition, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return ``cond`` with each text, on its own, emptied with chance ``dropout``.

        Args:
            cond: Must hold the text; other conditions are passed on.
            generator: Source of randomness, on the device of the text.
        """
        text = cond[TEXT]
        chance = torch.rand(len(text), generator=generator, device=text.device) < self.dropout
        null = self.null(len(text), text.device)
        return {**cond, **{name: emptied(cond[name], null[name], chance) for name in null}}

    def _captions(self, device: torch.device) -> _Texts:
        """Return the captions of the data, on ``device`` if they are few enough."""
        if self._table is None:
            raise InputError("captions are known by their numbers: call use(captions) first")
        states, mask = self._table
        if states.device == device or states.nbytes > _NEAR:
            return self._table
        if device not in self._tables:
            self._tables[device] = states.to(device), mask.to(device)
        return self._tables[device]

    def _empty(self, device: torch.device | str | None) -> _Texts:
        """Return states and mask of no text, ``(1, l, w)`` and ``(1, l)``.

        Every step of training and of guided sampling asks for them: an encoder that does not learn
        makes them once for each device.
        """
        # While a graph is traced tensors stand for others, which nobody else may see.
        if torch.compiler.is_compiling() or _learns(self.encoder):
            states, mask = self.encoder([""], self.length)
            return states.to(device), mask.to(device)
        if (
            self._no_text is None
            or self._no_text[0] is not self.encoder
            or self._no_text[1] != self.length
        ):
            self._no_text = (self.encoder, self.length, {})
        kept, where = self._no_text[2], str(device)
        if where not in kept:
            # The same wherever they are first asked for, and of use where gradients are wanted.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
                states, mask = self.encoder([""], self.length)
                kept[where] = states.to(device), mask.to(device)
        return kept[where]


def _learns(encoder: TextEncoder) -> bool:
    """Whether training may change what an encoder makes."""
    return isinstance(encoder, nn.Module) and any(p.requires_grad for p in encoder.parameters())
