"""The weights of a run as the beginning of another one: other classes, other channels, another body."""

from typing import Any

import pytest
import torch
from torch import nn

from trainer.models.transfer import transfer


def network(classes: int, channels: int = 3) -> Any:
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, classes))


def test_rows_of_known_classes_are_kept_and_the_others_are_new() -> None:
    torch.manual_seed(0)
    old, new = network(3), network(4)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    said = transfer(new, old.state_dict(), ["cat", "dog", "frog"], ["ant", "frog", "cat", "eel"])
    assert said == ["head 3: 2 classes (frog, cat) as learned; 2 classes (ant, eel) new"]
    assert torch.equal(new[0].weight, old[0].weight)
    for key in ("weight", "bias"):
        rows, before = getattr(new[3], key), getattr(old[3], key)
        assert torch.equal(rows[[1, 2]], before[[2, 0]])
        assert torch.equal(rows[[0, 3]], fresh[f"3.{key}"][[0, 3]])


def test_the_same_number_of_other_classes_is_a_new_head() -> None:
    old, new = network(3), network(3)
    before = new[3].weight.clone()
    said = transfer(new, old.state_dict(), ["cat", "dog", "frog"], ["apple", "pear", "plum"])
    assert said == ["head 3: 3 classes (apple, pear, plum) new"]
    assert torch.equal(new[3].weight, before)


@pytest.mark.parametrize("classes", [["a", "b"], None])
def test_the_same_network_is_loaded_whole_in_silence(classes: list[str] | None) -> None:
    old, new = network(2), network(2)
    assert transfer(new, old.state_dict(), classes, classes) == []
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(old(x), new(x))


def test_grey_images_are_colours_that_are_alike() -> None:
    colour, grey, back = network(2), network(2, 1), network(2)
    assert transfer(grey, colour.state_dict(), None, None) == ["0.weight: its colours summed for grey images"]
    x = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)))
    assert transfer(back, grey.state_dict(), None, None) == ["0.weight: spread over the three colours"]
    torch.testing.assert_close(back(x.expand(-1, 3, -1, -1)), grey(x))


def test_a_front_or_a_wrapper_is_no_other_network() -> None:
    """Networks of torchvision have one more module in front where images are grey."""
    old, front = network(2), nn.Sequential(nn.Identity(), network(2))
    assert transfer(front, old.state_dict(), None, None) == []
    assert torch.equal(front[1][0].weight, old[0].weight)  # type: ignore[index]
    back = network(2)
    assert transfer(back, front.state_dict(), None, None) == []


def test_another_body_is_refused() -> None:
    for other in (nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2)), nn.Linear(3, 2)):
        with pytest.raises(ValueError, match="tensors differ, the first is "):
            transfer(network(2), other.state_dict(), None, None)
