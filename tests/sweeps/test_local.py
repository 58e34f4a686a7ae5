"""What each trial gets of the machine."""

import json
from pathlib import Path

import pytest
from support import run_trainer

from trainer.sweeps.local import gpus
from trainer.system.cores import cores

TELLING = '''
import json
import os
from dataclasses import dataclass

import torch
from torch import nn

from trainer import key, register
from trainer.config.model import ModelConfig


@register("model", "telling")
@dataclass
class Telling(ModelConfig):
    """A model that tells where it is built."""

    def build(self, spec):
        told = [os.environ["CUDA_VISIBLE_DEVICES"], torch.get_num_threads(), os.getpgid(0) == os.getpid()]
        with open("told", "a") as file:
            file.write(json.dumps(told) + chr(10))
        return nn.Linear(spec.features, spec.outputs)
'''


def test_each_trial_has_a_device_and_its_share_of_the_cores(tmp_path: Path) -> None:
    (tmp_path / "telling.py").write_text(TELLING)
    words = ("--import", "telling.py", "-m", "model=telling", "data=synthetic", "data.num_samples=100", "seed=0,1,2,3")
    options = ("trainer.epochs=1", "sweep.jobs=auto", "sweep.jobs_per_device=1")
    done = run_trainer(tmp_path, "train", *words, *options, env={"CUDA_VISIBLE_DEVICES": "6,3"})
    assert ", 2 at a time" in done.stdout
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert {device for device, _, _ in told} == {"6", "3"}
    assert all(threads <= max(1, cores() // 2) and own_group for _, threads, own_group in told)


@pytest.mark.parametrize(
    ("visible", "device", "found"),
    [("0,1", "auto", ["0", "1"]), ("GPU-8f, GPU-9", "cuda", ["GPU-8f", "GPU-9"]), ("", "auto", []), ("-1", "auto", []),
     ("0,1", "cpu", []), ("0,1", "cuda:1", [])],
)  # fmt: skip
def test_the_devices_are_those_that_are_visible(
    visible: str, device: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus(device) == found
