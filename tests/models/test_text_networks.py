"""What holds for every network that reads text."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.distill.forward_mode import jvp
from flowgen.models import DiT, InContext, MMDiT, UNet2D, UViT, math_attention
from networks import perturbed
from two_processes import run_program

TEXT_WIDTH = 6
SMALL = {"patch": 2, "width": 16, "depth": 3, "heads": 2, "text_width": TEXT_WIDTH}
NETWORKS = {
    "dit, cross-attention": lambda **more: DiT(
        (3, 4, 6), {"label": 3, "style": 2}, **SMALL, **more
    ),
    "dit, in context": lambda **more: DiT(
        (3, 4, 6), {"label": 3, "style": 2}, text=InContext, **SMALL, **more
    ),
    "mmdit": lambda **more: MMDiT((3, 4, 6), {"label": 3, "style": 2}, **SMALL, **more),
    "uvit": lambda **more: UViT((3, 4, 6), {"label": 3, "style": 2}, **SMALL, **more),
}


@pytest.fixture(params=list(NETWORKS), name="build")
def _build(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]


@pytest.fixture(name="network")
def _network(build):
    return perturbed(build()).double()


@pytest.fixture(name="batch")
def _batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 4, 6, generator=generator, dtype=torch.float64)
    t = torch.rand(4, generator=generator, dtype=torch.float64)
    length = torch.tensor([5, 1, 3, 2])
    cond = {
        "label": torch.tensor([0, 3, 1, 2]),
        "style": torch.tensor([2, 0, 1, 1]),
        "text": torch.randn(4, 5, TEXT_WIDTH, generator=generator, dtype=torch.float64),
        "text_mask": torch.arange(5) < length[:, None],
    }
    return x, t, cond


def test_zero_at_the_start_and_of_the_shape_of_the_image(build, batch):
    x, t, cond = batch
    out = build()(x.float(), t.float(), {**cond, "text": cond["text"].half()})
    assert out.dtype == torch.float32
    assert torch.equal(out, torch.zeros_like(x.float()))


def test_tokens_that_are_none_do_not_matter(network, batch):
    x, t, cond = batch
    other = {**cond, "text": torch.where(cond["text_mask"][..., None], cond["text"], 7.0)}
    torch.testing.assert_close(network(x, t, other), network(x, t, cond), rtol=0, atol=1e-12)
    longer = {
        **cond,
        "text": torch.cat([cond["text"], torch.ones(4, 2, TEXT_WIDTH).double()], dim=1),
        "text_mask": torch.cat([cond["text_mask"], torch.zeros(4, 2, dtype=torch.bool)], dim=1),
    }
    torch.testing.assert_close(network(x, t, longer), network(x, t, cond), rtol=0, atol=1e-12)


def test_every_condition_matters_for_its_own_row_alone(network, batch):
    x, t, cond = batch
    before = network(x, t, cond)
    changed = {
        "text": torch.cat([cond["text"][:1] + 0.5, cond["text"][1:]]),
        "label": torch.tensor([1, 3, 1, 2]),
        "style": torch.tensor([0, 0, 1, 1]),
    }
    for name, value in changed.items():
        moved = (network(x, t, {**cond, name: value}) - before).flatten(1).abs().amax(1)
        assert moved[0] > 1e-6, name
        assert moved[1:].max() < 1e-12, name


def test_tokens_are_read_one_by_one_and_not_as_their_mean(network, batch):
    """Two texts with one mean, of different tokens."""
    x, t, cond = batch
    apart = torch.zeros_like(cond["text"])
    apart[0, 0], apart[0, 1] = 1.0, -1.0
    apart[0, :2, 0] *= -2
    moved = network(x, t, {**cond, "text": cond["text"] + apart}) - network(x, t, cond)
    assert moved[0].abs().max() > 1e-6


def test_gradient_reaches_every_parameter(network, batch):
    x, t, cond = batch
    network(x, t, cond).square().sum().backward()
    rows = ("condition.embeddings.label.table.weight", "condition.embeddings.style.table.weight")
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        assert name not in rows or parameter.grad.abs().sum(1).min() > 0, name


def test_derivative_is_that_of_torch(network, batch):
    x, t, cond = batch
    dx, dt = torch.randn_like(x), torch.ones_like(t)

    def function(x, t):
        return network(x, t, cond)

    with math_attention(), torch.no_grad():
        _, expected = torch.func.jvp(function, (x, t), (dx, dt))
    with math_attention():
        _, tangent = jvp(function, (x, t), (dx, dt))
    torch.testing.assert_close(tangent, expected, rtol=1e-9, atol=1e-10)


def test_checkpointing_changes_no_gradient(build, batch):
    x, t, cond = batch
    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        network = perturbed(build(gradient_checkpointing=again)).double()
        network(x, t, cond).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_checkpointing_keeps_less(build, batch):
    x, t, cond = batch
    kept = []
    for again in (False, True):
        network = build(gradient_checkpointing=again).double()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: (sizes.append(tensor.numel()), tensor)[1], lambda x: x
        ):
            network(x, t, cond)
        kept.append(sum(sizes))
    assert kept[1] < 0.6 * kept[0]


def test_missing_and_misshapen_text_is_told(network, batch):
    x, t, cond = batch
    with pytest.raises(InputError, match="condition 'text' is missing"):
        network(x, t, {k: v for k, v in cond.items() if not k.startswith("text")})
    with pytest.raises(InputError, match="condition 'text_mask' is missing"):
        network(x, t, {k: v for k, v in cond.items() if k != "text_mask"})
    with pytest.raises(InputError, match=r"text must have shape \(b, l, 6\)"):
        network(x, t, {**cond, "text": cond["text"][..., :3]})
    with pytest.raises(InputError, match="text_mask must be bool"):
        network(x, t, {**cond, "text_mask": cond["text_mask"].long()})


def test_autocast_and_one_row(build, batch):
    x, t, cond = batch
    network = perturbed(build())
    one = {name: value[:1] for name, value in cond.items()} | {"text": cond["text"][:1].float()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x[:1].float(), t[:1].float(), one)
    plain = network(x[:1].float(), t[:1].float(), one)
    assert (out - plain).norm() < 0.1 * plain.norm()


def test_what_a_student_is_told_changes_nothing_at_first(build, batch):
    x, t, cond = batch
    teacher = perturbed(build().double())
    student = build(interval=True, guided=True).double()
    # All weights of the teacher have a place in the student, in the same shape.
    assert set(student.load_state_dict(teacher.state_dict(), strict=False).missing_keys) == {
        name for name in student.state_dict() if ".interval." in name or ".guidance." in name
    }
    before = teacher(x, t, cond)
    assert before.abs().max() > 0
    told = {**cond, "interval": 1 - t, "guidance": 3 * t + 1}
    torch.testing.assert_close(student(x, t, told), before, rtol=1e-12, atol=1e-12)
    perturbed(student)
    other = student(x, t, {**told, "guidance": 0 * t + 1})
    assert (student(x, t, told) - other).abs().max() > 0


def test_unet2d_knows_the_mean_of_a_text(batch):
    x, t, cond = batch
    network = perturbed(
        UNet2D(
            (3, 4, 8),
            None,
            channels=(8, 16),
            num_blocks=1,
            attention_levels=(1,),
            head_width=4,
            groups=4,
            text_width=TEXT_WIDTH,
        )
    ).double()
    x = torch.cat([x, x[..., :2]], dim=-1)
    text = {name: cond[name] for name in ("text", "text_mask")}
    before = network(x, t, text)
    assert (network(x, t, {**text, "text": text["text"] + 1}) - before).abs().amax() > 1e-6


COMPILED = """
import torch
from torch._dynamo.utils import counters
from flowgen.models import DiT, InContext, MMDiT, UViT

torch.manual_seed(0)
small = {"patch": 2, "width": 16, "depth": 5, "heads": 2, "text_width": 6}
for make in (
    lambda: DiT((3, 4, 6), 3, **small),
    lambda: DiT((3, 4, 6), 3, text=InContext, gradient_checkpointing=True, **small),
    lambda: MMDiT((3, 4, 6), 3, **small),
    lambda: UViT((3, 4, 6), 3, **small),
):
    network = make()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    cond = {
        "label": torch.tensor([0, 3]),
        "text": torch.randn(2, 4, 6),
        "text_mask": torch.tensor([[True, True, False, False], [True, False, False, False]]),
    }
    x, t = torch.randn(2, 3, 4, 6), torch.tensor([0.2, 0.7])
    expected = network(x, t, cond)
    for block in network.blocks:
        block.compile(fullgraph=True, backend="eager")
    graphs = []
    for _ in range(3):
        out = network(x, t, cond)
        torch.testing.assert_close(out, expected)
        out.square().mean().backward()
        with torch.no_grad():
            network(x, t, cond)
        graphs.append(counters["stats"]["unique_graphs"])
    # Nothing is compiled again once every kind of call was made, and alike blocks share a graph.
    assert graphs[0] == graphs[2], graphs
    assert graphs[0] <= 8, graphs
    counters.clear()
    torch._dynamo.reset()
"""


@pytest.mark.slow
def test_blocks_compile_without_a_graph_break_and_once():
    # In a process of its own: the run-time type checks of the tests are themselves graph breaks.
    run_program(COMPILED)
