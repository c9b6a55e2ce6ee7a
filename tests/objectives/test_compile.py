from two_processes import run_program

PROGRAM = """
import torch
from torch import nn
from flowgen.core import Pair
from flowgen.objectives import *
from flowgen.paths import *

class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 2))

    def forward(self, x, t, cond=None):
        return self.net(torch.cat([x, t[:, None]], dim=1))

field = Field()
x_0, x_1 = torch.randn(2, 16, 2)
objectives = [
    FlowMatching(AffinePath(Linear())),
    FlowMatching(AffinePath(VP()), Shifted(Stratified(), 2.0), prediction=Noise(),
                 weighting=Equivalent(Noise()), distance=Adaptive()),
]
for objective in objectives:
    torch._dynamo.reset()
    step = lambda x_0, x_1: objective(field, Pair(x_0, x_1)).total()
    found = torch._dynamo.explain(step)(x_0, x_1)
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
"""


def test_the_step_is_one_graph():
    """In a process of its own: the suite's run-time type checks cannot be traced."""
    run_program(PROGRAM)
