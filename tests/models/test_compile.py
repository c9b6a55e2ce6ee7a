"""Networks are compiled without a break, all blocks of a transformer as one, and once for all."""

import shutil
import subprocess
import sys

import pytest

from two_processes import run_program

PROGRAM = """
import torch
from torch._dynamo.testing import CompileCounter
from flowgen.models import DiT, UNet

torch.manual_seed(0)
x, t, label = torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([3, 1])

def step(network, half):
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = network(x, t, {"label": label}).float().sub(x).square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.1 * parameter.grad
            parameter.grad = None
    return loss.detach()

for half in (False, True):
    networks = (
        DiT((1, 8, 8), 10, patch=2, width=16, depth=3, heads=2),
        UNet((1, 8, 8), 10, width=8, multipliers=[1, 2], num_blocks=1),
    )
    for network in networks:
        start = {name: value.clone() for name, value in network.state_dict().items()}
        plain = [step(network, half) for _ in range(3)]
        network.load_state_dict(start)
        torch._dynamo.reset()
        counter = CompileCounter()
        for part in getattr(network, "blocks", [network]):
            part.compile(backend=counter, fullgraph=True)
        compiled = [step(network, half) for _ in range(3)]
        # One graph for the first step, none for later ones.
        assert counter.frame_count == 1, (type(network), counter.frame_count)
        torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-6)
"""


def test_one_graph_without_a_break_and_no_second_one():
    """In a process of its own: the suite's run-time type checks cannot be traced."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FUSED = """
import re
import torch
from torch._inductor import config
from torch._inductor.utils import run_and_get_code
from flowgen.models import ScalingNorm

torch.manual_seed(0)
x, shift, scale = (torch.randn(2, n, 32) + 0.3 for n in (5, 1, 1))
weight = torch.randn(2, 5, 32)

def found(norm):
    inputs = [each.clone().requires_grad_() for each in (x, shift, scale)]
    y = norm(*inputs)
    (y * weight).sum().backward()
    return [y.detach(), *(each.grad for each in inputs)]

norm = ScalingNorm(32)
with config.patch(fx_graph_cache=False):
    compiled, code = run_and_get_code(found, torch.compile(norm, fullgraph=True))
for ours, theirs in zip(compiled, found(norm), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
kernels = [len(re.findall('extern "C"', each)) for each in code]
assert kernels == [1, 1], kernels
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_compiler_fuses_modulation_with_its_norm_and_its_gradients_are_the_plain_ones():
    """One kernel forward and one backward: why there is none written by hand."""
    run_program(FUSED)
