"""Images per second of a small DiT on the CPU: flowgen's ways of computing against the plain one.

The plain step is what public training loops do: eager float32, torch's fused attention, default
AdamW, an average of the weights by a Python loop. All variants are timed in turn in one process,
the medians are compared, and each must first reproduce the plain loss. Prints JSON.

    OMP_NUM_THREADS=1 python benchmarks/dit_cpu.py --pairs 7 --batch 64 --compile
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from flowgen.models import DiT, math_attention

SHAPE, CLASSES = (1, 28, 28), 10


def network() -> DiT:
    torch.manual_seed(0)
    built = DiT(SHAPE, CLASSES, patch=4, width=128, depth=6, heads=4)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return built


def plain_average(average: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    for mean, parameter in zip(average, parameters, strict=True):
        mean.mul_(0.999).add_(parameter, alpha=0.001)


def foreach_average(average: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    torch._foreach_lerp_(list(average), list(parameters), 0.001)


class Variant:
    """One way to train and to evaluate the same network on the same batch."""

    def __init__(
        self,
        model: nn.Module,
        batch: tuple[Tensor, Tensor, Tensor],
        *,
        half: bool = False,
        explicit: bool = False,
        fused: bool = True,
    ) -> None:
        self.model, self.batch, self.half, self.explicit = model, batch, half, explicit
        self.parameters = list(model.parameters())
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.lerp = foreach_average if fused else plain_average
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, fused=True if fused else None)

    def output(self) -> Tensor:
        """Return the network output in float32, shape ``(b, *d)``."""
        x, t, label = self.batch
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=self.half),
            math_attention() if self.explicit else nullcontext(),
        ):
            return self.model(x, t, {"label": label}).float()

    def train(self) -> float:
        """Do one training step with a learning rate of 0; return the loss."""
        loss = (self.output() - self.batch[0]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.lerp(self.average, self.parameters)
        return float(loss.detach())

    def evaluate(self) -> float:
        """Evaluate the network once without gradient; return one number of the output."""
        with torch.inference_mode():
            return float(self.output()[0, 0, 0, 0])


def rates(run: Callable[[Variant], float], variants: dict[str, Variant], pairs: int) -> dict:
    seconds = {name: [] for name in variants}
    for _ in range(pairs):
        for name, variant in variants.items():
            start = time.perf_counter()
            run(variant)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a small DiT on the CPU.")
    parser.add_argument("--pairs", type=int, default=7, help="timed rounds of all variants")
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument("--compile", action="store_true", help="add variants with compiled blocks")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(1)
    batch = (
        torch.randn(options.batch, *SHAPE, generator=generator),
        torch.rand(options.batch, generator=generator),
        torch.randint(CLASSES + 1, (options.batch,), generator=generator),
    )
    model = network()
    variants = {
        "plain_fp32": Variant(copy.deepcopy(model), batch, fused=False),
        "eager_fp32": Variant(copy.deepcopy(model), batch),
        "eager_fp32_explicit": Variant(copy.deepcopy(model), batch, explicit=True),
        "eager_bf16_explicit": Variant(copy.deepcopy(model), batch, half=True),
    }
    if options.compile:
        for name, half in (("compiled_fp32", False), ("compiled_bf16_explicit", True)):
            compiled = copy.deepcopy(model)
            for block in compiled.blocks:
                block.compile(fullgraph=True)
            variants[name] = Variant(compiled, batch, half=half)
    losses = {name: variant.train() for name, variant in variants.items()}
    for name, loss in losses.items():
        if abs(loss / losses["plain_fp32"] - 1) > 0.01:
            raise SystemExit(f"{name} does not reproduce the plain loss: {losses}")
    rates(Variant.evaluate, variants, 1)
    train = rates(Variant.train, variants, options.pairs)
    sample = rates(Variant.evaluate, variants, options.pairs)
    report = {
        "threads": torch.get_num_threads(),
        "batch": options.batch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "torch": torch.__version__,
    }
    for task, medians in (("train", train), ("sample", sample)):
        report[task] = {
            name: {
                "images_per_second": round(options.batch / median, 1),
                "ratio": round(medians["plain_fp32"] / median, 3),
            }
            for name, median in medians.items()
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
