"""The commands of docs/fine_tuning.md, run on small stand-ins in their order."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support import Command
from torchvision import models

PAGE = Path(__file__).parent.parent / "docs" / "fine_tuning.md"
SMALLER = ("data.image_size=32", "trainer.epochs=2", "data.batch_size=8")  # so that the test is quick


def test_the_page_leads_from_photographs_to_predictions(trainer: Command, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for place, count in (
        ("photos/train/cat", 10),
        ("photos/train/dog", 10),
        ("photos/val/cat", 3),
        ("photos/val/dog", 3),
        ("new", 2),
    ):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(0, 120, (40, 50, 3)) + 100 * place.endswith("dog")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.jpg")
    torch.save({"state_dict": models.resnet18(num_classes=1000).state_dict()}, tmp_path / "resnet18.pth")
    text = PAGE.read_text(encoding="utf-8")
    commands = [
        line.removeprefix("$ ")
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(commands) == 8
    said = {}
    for command in commands:
        program, *words = shlex.split(command)
        if program == "python":
            rows = list(csv.DictReader((tmp_path / "val.csv").open()))
            assert {row["file"].split("/")[0] for row in rows} == {"cat", "dog"}  # what the line compares
            continue
        if program == "train":
            words = [
                "train",
                *(word for word in words if word.split("=")[0] not in {s.split("=")[0] for s in SMALLER}),
                *SMALLER,
            ]
        done = trainer(*words)
        said[command] = done.stdout + done.stderr
    first, second = (said[command] for command in commands[:2])
    assert "100 of 102 tensors loaded; head fc (2 tensors) is new: 2 classes instead of 1,000" in first
    assert "parameters trained: model.freeze=all-but-head" in first
    assert "init_from outputs/" in second
    assert "rates     conv1 × 0.0751" in second
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 3
