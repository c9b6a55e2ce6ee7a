"""What the couplings do to a pair: which rows move, what is reported, what is refused."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import (
    ClassAssignment,
    ExactAssignment,
    Independent,
    SinkhornTilt,
    Weighted,
    optimal_permutation,
)


def pair(n, shape, generator, num_classes=None, weight=None):
    x_0 = torch.randn(n, *shape, generator=generator)
    x_1 = 1.7 * torch.randn(n, *shape, generator=generator) - 0.8
    if num_classes is None:
        return Pair(x_0, x_1, weight=weight)
    label = torch.randint(0, num_classes, (n,), generator=generator)
    return Pair(x_0, x_1, {"label": label}, weight=weight)


def rows(x):
    """The rows of a batch as a sorted list, to compare as a multiset."""
    return sorted(x.flatten(1).tolist())


COUPLINGS = [(Independent(), None), (ExactAssignment(), None), (ClassAssignment(), 3)]


@pytest.mark.parametrize(("coupling", "num_classes"), COUPLINGS)
@pytest.mark.parametrize("shape", [(2,), (3, 4, 5)])
@pytest.mark.parametrize("n", [1, 24])
def test_only_the_rows_of_the_source_move(coupling, num_classes, shape, n, generator):
    given = pair(n, shape, generator, num_classes)
    coupled = coupling(given)
    assert isinstance(coupling, Coupling)
    assert torch.equal(coupled.x_1, given.x_1)
    assert coupled.x_0.shape == given.x_0.shape
    assert rows(coupled.x_0) == rows(given.x_0)
    assert (coupled.cond is None) == (given.cond is None)
    if given.cond and coupled.cond:
        assert torch.equal(coupled.cond["label"], given.cond["label"])


@pytest.mark.parametrize(("coupling", "num_classes"), COUPLINGS)
def test_the_same_generator_gives_the_same_pairs(coupling, num_classes):
    results = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(3)
        given = pair(32, (2,), generator, num_classes)
        results.append(coupling(given, generator=generator).x_0)
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_independent_returns_the_very_tensors_with_their_cost(dtype, generator):
    given = pair(5, (2, 3), generator, 2, weight=torch.full((5,), 1.0))
    x_0, x_1 = given.x_0.to(dtype), given.x_1.to(dtype).requires_grad_()
    given = Pair(x_0, x_1, given.cond, given.weight, {"before": 2.0})
    after = Independent()(given)
    for name in ("x_0", "x_1", "cond", "weight"):
        assert getattr(after, name) is getattr(given, name)
    cost = after.stats["coupling/cost"]
    assert set(after.stats) == {"before", "coupling/cost"}
    assert after.stats["before"] == 2.0
    assert not cost.requires_grad
    # A mean of all numbers, in float32 at least, where narrow types would keep three digits.
    squares = [
        (a - b) ** 2 for a, b in zip(x_0.flatten().tolist(), x_1.flatten().tolist(), strict=True)
    ]
    assert float(cost) == pytest.approx(sum(squares) / 30, rel=1e-6)
    assert set(given.stats) == {"before"}


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors: on an accelerator each is a wait."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "coupling", [Independent(), Weighted(0.5), Weighted(0.5, correction=SinkhornTilt(3))]
)
def test_figures_of_what_is_made_in_the_step_wait_for_nothing(coupling, generator):
    given = pair(12, (2,), generator)
    with Reads() as reads:
        stats = coupling(given).stats
        assert reads.count == 0
        float(stats["coupling/cost"])
    assert reads.count == 1, "the counter counts nothing"


def test_exact_assignment_reports_the_cost_of_its_pairs(generator):
    given = pair(50, (1, 3, 2), generator)
    given = Pair(given.x_0, given.x_1, stats={"before": 2.0})
    coupled = ExactAssignment()(given)
    difference = (coupled.x_0 - coupled.x_1).double()
    assert float(coupled.stats["coupling/cost"]) == pytest.approx(
        float(difference.square().sum() / (50 * 6)), rel=1e-5
    )
    assert coupled.stats["coupling/optimality"] == 1.0
    assert coupled.stats["coupling/ms"] > 0
    assert coupled.stats["before"] == 2.0
    assert float(coupled.stats["coupling/cost"]) < float((given.x_0 - given.x_1).square().mean())


def test_a_larger_batch_brings_the_pairs_closer(generator):
    """Between the cost of independent pairs and that of the true map, and falling with n."""
    costs = []
    for n in (2, 16, 128):
        draws = [ExactAssignment()(pair(n, (3,), generator)) for _ in range(2048 // n)]
        costs.append(sum(float(d.stats["coupling/cost"]) for d in draws) / len(draws))
    independent, optimal = 0.8**2 + 1 + 1.7**2, 0.8**2 + (1.7 - 1) ** 2
    assert independent > costs[0] > costs[1] > costs[2] > optimal


def probe(x_0, label):
    """Share of rows whose class is told by the sign of the source."""
    return float(((x_0[:, 0] > 0) == (label == 1)).float().mean())


def test_noise_tells_the_class_after_plain_transport_and_not_after_class_assignment(generator):
    """Classes at -3 and 3, N(0, 1) noise, n = 128: 94 % against chance."""
    plain, safe = [], []
    for _ in range(40):
        label = torch.randint(0, 2, (128,), generator=generator)
        x_1 = (6.0 * label - 3)[:, None] + 0.3 * torch.randn(128, 1, generator=generator)
        given = Pair(torch.randn(128, 1, generator=generator), x_1, {"label": label})
        plain.append(probe(given.x_0[optimal_permutation(given.x_0, x_1)], label))
        safe.append(probe(ClassAssignment()(given).x_0, label))
    assert sum(plain) / 40 == pytest.approx(0.94, abs=0.02)
    # 5120 fair coins: standard error 0.007.
    assert sum(safe) / 40 == pytest.approx(0.5, abs=0.03)


def test_each_class_keeps_its_noise_and_is_solved_exactly(generator):
    given = pair(60, (2, 2), generator, 4)
    assert given.cond is not None
    label = given.cond["label"]
    coupled = ClassAssignment()(given)
    for value in range(4):
        here = label == value
        assert rows(coupled.x_0[here]) == rows(given.x_0[here])
        alone = optimal_permutation(given.x_0[here], given.x_1[here])
        assert torch.equal(coupled.x_0[here], given.x_0[here][alone])


def test_one_class_for_all_is_the_plain_assignment_and_one_each_changes_nothing(generator):
    given = pair(20, (3,), generator)
    plain = ExactAssignment()(given)
    same = Pair(given.x_0, given.x_1, {"group": torch.full((20,), 7)})
    assert torch.equal(ClassAssignment("group")(same).x_0, plain.x_0)
    alone = Pair(given.x_0, given.x_1, {"label": torch.arange(20)})
    assert torch.equal(ClassAssignment()(alone).x_0, given.x_0)


def test_plain_transport_refuses_a_condition_and_says_what_to_do(generator):
    with pytest.raises(InputError, match=r"depend on the condition.*class_assignment"):
        ExactAssignment()(pair(8, (2,), generator, 2))
    given = pair(8, (2,), generator)
    ExactAssignment()(Pair(given.x_0, given.x_1, cond={}))


def test_class_assignment_needs_the_label_and_nothing_else(generator):
    given = pair(8, (2,), generator)
    label = torch.zeros(8, dtype=torch.long)
    with pytest.raises(InputError, match="coupling=exact_assignment"):
        ClassAssignment()(given)
    for cond, message in [
        ({"text": torch.zeros(8, 3)}, "got \\['text'\\]"),
        ({"label": label, "text": torch.zeros(8, 3)}, "also has \\['text'\\]"),
        ({"label": label.double()}, "integer vector"),
        ({"label": label[:, None]}, "integer vector"),
    ]:
        with pytest.raises(InputError, match=message):
            ClassAssignment()(Pair(given.x_0, given.x_1, cond))
    with pytest.raises(InputError, match="name of a condition"):
        ClassAssignment("")


@pytest.mark.parametrize(("coupling", "num_classes"), COUPLINGS[1:])
def test_weights_and_bad_values_are_refused(coupling, num_classes, generator):
    given = pair(8, (2,), generator, num_classes, weight=torch.ones(8))
    with pytest.raises(InputError, match="weigh the pairs after"):
        coupling(given)
    given.x_1[5, 1] = float("nan")
    with pytest.raises(InputError, match="must be finite"):
        coupling(Pair(given.x_0, given.x_1, given.cond))


def test_data_that_carries_a_gradient_keeps_it(generator):
    given = pair(6, (2,), generator)
    x_1 = given.x_1.requires_grad_()
    coupled = ExactAssignment()(Pair(given.x_0, x_1))
    coupled.x_1.sum().backward()
    assert x_1.grad is not None
    assert torch.equal(x_1.grad, torch.ones(6, 2))


def test_what_the_couplings_say_of_themselves():
    def facts(coupling):
        return coupling.score_valid, coupling.exact_marginals, coupling.condition_safe

    assert facts(Independent()) == (True, True, True)
    assert facts(ExactAssignment()) == (False, True, False)
    assert facts(ClassAssignment()) == (False, True, True)
