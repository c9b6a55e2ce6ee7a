from two_processes import run_program

PROGRAM = """
import torch
from flowgen.core import Pair
from flowgen.paths import *

x_0, x_1 = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
t = torch.linspace(0.1, 0.9, 4)

def step(path):
    def run(x_0, x_1, t):
        point, c = path.sample(Pair(x_0, x_1), t), path.coefficients(t)
        y = convert(point.v_t, point.x_t, c, Velocity(), EDMPrediction(0.5))
        return y, path.schedule.snr_inverse(path.schedule.snr(t))
    return run

field = Rescheduled(lambda x, t, cond=None: x * t[:, None], Linear(), EDM())
functions = [step(AffinePath(s)) for s in (VP(), Cosine(), Tabulated())]
for function in [*functions, lambda x_0, x_1, t: (field(x_0, t),)]:
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager")(x_0, x_1, t)
    for found, expected in zip(compiled, function(x_0, x_1, t)):
        torch.testing.assert_close(found, expected)
"""


def test_a_training_step_compiles_as_one_graph():
    """In a process of its own: the suite's run-time type checks cannot be traced."""
    run_program(PROGRAM)
