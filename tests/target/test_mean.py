import pytest
import torch

from kvdistill.kv import LayerKV, ModelKV, Rope
from kvdistill.target.mean import TargetMean


def cache(batch: int = 4, slots: int = 3, importance: bool = True, scale: float = 1.0) -> ModelKV:
    def layer() -> LayerKV:
        mask = torch.rand(batch, 2, slots) < 0.7
        positions = torch.arange(slots).expand(batch, 2, slots)
        keys, values = scale * torch.randn(batch, 2, slots, 4), scale * torch.randn(batch, 2, slots, 5)
        return LayerKV(
            keys, values, mask, positions, importance=torch.rand(batch, 2, slots) if importance else None
        )

    return ModelKV((layer(), layer()), (0, 1), "test")


def one_slot(values: list[float], valid: list[bool]) -> ModelKV:
    keys = torch.tensor(values)[:, None, None, None]
    mask = torch.tensor(valid)[:, None, None]
    return ModelKV((LayerKV(keys, 10 * keys, mask, torch.zeros_like(mask, dtype=torch.long)),), (0,), "test")


def test_by_hand() -> None:
    first = TargetMean.over(one_slot([1.0, 3.0, 100.0], [True, True, False]))
    assert (
        first.layers[0].keys.item() == 2
        and first.layers[0].values.item() == 20
        and first.layers[0].count.item() == 2
    )
    second = TargetMean.over(one_slot([8.0], [True]), first)
    assert second.layers[0].keys.item() == 4 and second.layers[0].count.item() == 3
    assert first.layers[0].keys.item() == 2  # what was carried in stays as it is


def test_spread_by_hand() -> None:
    mean = TargetMean.over(one_slot([1.0, 3.0], [True, True]))
    target = one_slot([7.0, 9.0], [True, False])
    spread = mean.spread(target).layers[0]
    assert spread.keys.flatten().tolist() == [2, 2] and spread.mask.flatten().tolist() == [True, False]
    assert target.layers[0].keys.flatten().tolist() == [7, 9]
    nothing = TargetMean.over(one_slot([1.0], [False]))
    assert not nothing.spread(target).layers[0].mask.any()


def test_batch_after_batch_equals_all_at_once_in_float64() -> None:
    batches = [cache(batch) for batch in (4, 1, 3)]
    mean = None
    for batch in batches:
        mean = TargetMean.over(batch, mean)
    assert mean is not None
    for index, seen in enumerate(mean.layers):
        mask = torch.cat([b.layers[index].mask for b in batches])
        for name in ("keys", "values", "importance"):
            every = torch.cat([getattr(b.layers[index], name) for b in batches]).double()
            for head in range(2):
                for slot in range(3):
                    kept = every[:, head, slot][mask[:, head, slot]]
                    if len(kept):
                        assert torch.allclose(
                            getattr(seen, name)[head, slot].double(), kept.mean(0), atol=1e-5
                        )
                    assert seen.count[head, slot].item() == len(kept)


def test_nan_in_padding_and_gradients_stay_out() -> None:
    target = one_slot([1.0, float("nan")], [True, False])
    learning = target.map((target.layers[0].replace(keys=target.layers[0].keys.requires_grad_()),))
    mean = TargetMean.over(learning)
    assert mean.layers[0].keys.item() == 1 and not mean.layers[0].keys.requires_grad


def test_without_importance_there_is_none() -> None:
    target = cache(importance=False)
    assert TargetMean.over(target).spread(target).layers[0].importance is None


def test_other_slots_are_refused_in_words() -> None:
    mean = TargetMean.over(cache())
    for other in (cache(slots=4), cache(importance=False)):
        with pytest.raises(ValueError, match="target from test has other layers, heads, slots or widths"):
            TargetMean.over(other, mean)
        with pytest.raises(ValueError, match="carry one mean a run"):
            mean.spread(other)
    rotated = cache()
    rotated = rotated.map(tuple(layer.replace(rope=Rope(torch.ones(2))) for layer in rotated.layers))
    with pytest.raises(ValueError, match="are rotated"):
        TargetMean.over(rotated)


@pytest.mark.parametrize("importance", [True, False])
def test_the_numbers_by_name_are_the_mean_again(importance: bool) -> None:
    mean = TargetMean.over(cache(importance=importance))
    tensors = mean.tensors()
    assert set(tensors) == {
        f"{i}.{name}" for i in (0, 1) for name in ("keys", "values", "importance", "count")
    } - (set() if importance else {"0.importance", "1.importance"})
    again = TargetMean.of(dict(reversed(tensors.items())))
    assert again.tensors().keys() == tensors.keys()
    assert all(torch.equal(again.tensors()[name], value) for name, value in tensors.items())
    target = cache(importance=importance)
    assert torch.equal(
        TargetMean.over(target, again).layers[1].values, TargetMean.over(target, mean).layers[1].values
    )


def test_more_than_ten_layers_keep_their_order() -> None:
    layers = tuple(cache(1).layers[0] for _ in range(12))
    mean = TargetMean.over(ModelKV(layers, tuple(range(12)), "test"))
    again = TargetMean.of({name: mean.tensors()[name] for name in sorted(mean.tensors())})
    assert all(
        torch.equal(one.keys, other.keys) for one, other in zip(again.layers, mean.layers, strict=True)
    )


def test_processes_that_sum_have_one_mean() -> None:
    """Whoever holds 1 and 3 and whoever holds 8: the mean is 4 on both."""
    mine, theirs = one_slot([1.0, 3.0], [True, True]), one_slot([8.0], [True])
    others = iter(
        [torch.tensor([[1.0]]), torch.tensor([[[8.0]]]), torch.tensor([[[80.0]]])]
    )  # count, keys, values
    mean = TargetMean.over(mine, total=lambda value: value + next(others))
    assert (mean.layers[0].keys.item(), mean.layers[0].values.item(), mean.layers[0].count.item()) == (
        4,
        40,
        3,
    )
    others = iter([torch.tensor([[2.0]]), torch.tensor([[[4.0]]]), torch.tensor([[[40.0]]])])
    assert TargetMean.over(theirs, total=lambda value: value + next(others)).layers[0].keys.item() == 4
