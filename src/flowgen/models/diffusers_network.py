"""A transformer or U-Net of diffusers, pretrained or not, behind our interface.

The text reaches it as :data:`TEXT`: the rows of an encoder, before which the one vector that some
families read beside the tokens stands in as many rows as it fills. That way it is cached, dropped
and sampled as any other text is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Condition, InputError, vector_rows
from flowgen.models.adapters import add_adapter
from flowgen.models.checks import check_inputs, check_positive, sample_shape
from flowgen.models.conditioning import (
    GUIDANCE,
    INTERVAL,
    TEXT,
    TEXT_MASK,
    ScaleEmbedding,
    silence,
    silent_classes,
)
from flowgen.models.diffusers_families import FAMILIES, Family, Given
from flowgen.models.time_embedding import TimeEmbedding


class DiffusersNetwork(nn.Module):
    """A network of diffusers that reads text.

    Args:
        shape: Channels, height and width of one sample.
        settings: Its config as diffusers writes it, with ``_class_name``, one of
            :data:`flowgen.models.diffusers_families.FAMILIES`.
        text_width: Features of a row of text; must be those the network reads.
        num_train_timesteps: Steps of noise that a diffusion model was trained on.
        guidance: Scale that a guidance-distilled network is told, or None.
        adapter: Settings of :func:`flowgen.models.adapters.add_adapter`, which learns in the place
            of the network's own weights; None for none.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        guided: Whether it is told the scale of its guidance, as a student for a range of them is.

    Attributes:
        network: The module of diffusers; its ``state_dict`` is what diffusers saves.
        condition: What it is told besides, added to its embedding of the time.

    Raises:
        InputError: If the kind is unknown, or settings and shape do not fit.
    """

    def __init__(
        self,
        shape: Sequence[int],
        settings: Mapping[str, Any],
        *,
        text_width: int | None = None,
        num_train_timesteps: int = 1000,
        guidance: float | None = None,
        adapter: Mapping[str, Any] | None = None,
        interval: bool = False,
        guided: bool = False,
    ) -> None:
        super().__init__()
        # A heavy import, for those who use it.
        import diffusers

        self.shape = sample_shape(shape, num_axes=3)
        check_positive(num_train_timesteps=num_train_timesteps)
        kind, family = family_of(settings)
        own = {key: value for key, value in settings.items() if not key.startswith("_")}
        try:
            self.network: Any = getattr(diffusers, kind)(**own)
        except (TypeError, ValueError) as error:
            raise InputError(f"the {kind} cannot be built: {error}") from error
        config = self.network.config
        channels = config["in_channels"] // (4 if kind.startswith("Flux") else 1)
        if self.shape[0] != channels:
            raise InputError(f"this {kind} has {channels} channels, the data {self.shape[0]}")
        width = family.text_width(config)
        if text_width != width:
            raise InputError(
                f"this {kind} reads text of {width} features, got {text_width or 'no text'}: "
                "use its own text_encoder=diffusers and data with captions"
            )
        if adapter is not None:
            add_adapter(self.network, **adapter)
        self.num_train_timesteps = int(num_train_timesteps)
        self.guidance = guidance
        self.pooled_width = family.pooled_width(config)
        self._family = family
        self._given: Condition = {}
        embedder = self.network.get_submodule(family.embedder)
        self.condition = Summands(_width_of(embedder))
        if interval:
            self.condition.add_interval()
        if guided:
            self.condition.add_guidance()
        embedder.register_forward_hook(self._with_summands)

    @property
    def out(self) -> nn.Module:
        """The last layer, whose inputs are the network's features."""
        return self.network.get_submodule(self._family.last)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the network's own prediction, shape ``(b, c, h, w)``.

        Args:
            x: States, shape ``(b, c, h, w)``.
            t: Times in ``[0, 1]``, shape ``(b,)``.
            cond: Must hold text, and what :attr:`condition` adds, as a flow map's interval.

        Raises:
            InputError: If shapes, types or conditions are not those the network was built for.
        """
        check_inputs(x, t, self.shape)
        if cond is None or TEXT not in cond:
            raise InputError("this network reads text: give cond with text and text_mask")
        dtype = next(self.network.parameters()).dtype
        text, mask = cond[TEXT].to(dtype), cond[TEXT_MASK]
        pooled = None
        if self.pooled_width:
            rows = vector_rows(self.pooled_width, text.shape[-1])
            pooled = text[:, :rows].flatten(1)[:, : self.pooled_width]
            text, mask = text[:, rows:], mask[:, rows:]
        self._given = cond
        given = Given(
            *(x.to(dtype), t.to(dtype), text, mask, pooled),
            num_steps=self.num_train_timesteps,
            guidance=self.guidance,
        )
        try:
            return self._family.call(self.network, given)
        finally:
            self._given = {}

    def _with_summands(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Add what else the network is told to its embedding of the time."""
        del module, inputs
        for added in self.condition(self._given):
            output = output + added.to(output.dtype).expand_as(output)
        return output


class Summands(nn.Module):
    """Embeddings beside that of the time; they change nothing at the start.

    Args:
        width: Of the embedding of the time.

    Attributes:
        embeddings: By the names of their conditions; none at first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        # Named as in the other networks, so that students find what is new to them.
        self.embeddings = nn.ModuleDict()

    def add_interval(self) -> None:
        """Add the length of a jump."""
        self.embeddings[INTERVAL] = silence(TimeEmbedding(self.width))

    def add_guidance(self) -> None:
        """Add the scale of guidance."""
        self.embeddings[GUIDANCE] = silence(ScaleEmbedding(self.width))

    def add_classes(self, name: str, count: int) -> None:
        """Add one more condition of ``count`` classes."""
        self.embeddings[name] = silent_classes(count, self.width)

    def forward(self, cond: Condition) -> list[Float[Tensor, "#b w"]]:
        """Return the summands; one row where all rows share their condition.

        Raises:
            InputError: If a condition is missing.
        """
        if missing := [name for name in self.embeddings if name not in cond]:
            raise InputError(
                f"condition '{missing[0]}' is missing: pass cond={{'{missing[0]}': ...}}"
            )
        return [embedding(cond[name]) for name, embedding in self.embeddings.items()]


def family_of(settings: Mapping[str, Any]) -> tuple[str, Family]:
    """Return the name and the family of a network with these settings.

    Raises:
        InputError: If it is unknown, or this one of its kind cannot be used.
    """
    kind = str(settings.get("_class_name"))
    family = FAMILIES.get(kind)
    if family is None:
        raise InputError(f"a network of diffusers must be one of {', '.join(FAMILIES)}, got {kind}")
    if why := family.refused(settings):
        raise InputError(f"this {kind} cannot be used: {why}")
    return kind, family


def _width_of(embedder: nn.Module) -> int:
    return [part for part in embedder.modules() if isinstance(part, nn.Linear)][-1].out_features
