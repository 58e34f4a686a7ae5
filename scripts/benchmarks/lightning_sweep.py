"""A sweep as the Lightning and Hydra templates make it, for `bench_sweep.py`: jobs in turn in one process.

python scripts/benchmarks/lightning_sweep.py -m +data=adult.csv +target=Salary +lr=0.1,0.01
"""

import csv

import hydra
import lightning
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 64


def encoded(path: str, target: str) -> tuple[Tensor, Tensor]:
    """Read a table: numbers standardised, words one-hot, the target as classes."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{k.strip(): v.strip() for k, v in row.items()} for row in csv.DictReader(file)]
    columns = []
    for name in (name for name in rows[0] if name != target):
        values = [row[name] for row in rows]
        try:
            numbers = torch.tensor([float(value) for value in values])
            columns.append(((numbers - numbers.mean()) / numbers.std().clamp(min=1e-6))[:, None])
        except ValueError:
            known = {value: i for i, value in enumerate(sorted(set(values)))}
            columns.append(nn.functional.one_hot(torch.tensor([known[value] for value in values])).float())
    classes = {value: i for i, value in enumerate(sorted({row[target] for row in rows}))}
    return torch.cat(columns, 1), torch.tensor([classes[row[target]] for row in rows])


class Classifier(lightning.LightningModule):
    """A linear layer."""

    def __init__(self, features: int, classes: int, lr: float) -> None:
        super().__init__()
        self.layer, self.lr = nn.Linear(features, classes), lr

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val/accuracy", (self.layer(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


@hydra.main(version_base="1.3", config_path=None)
def main(config: DictConfig) -> float:
    """Run one job."""
    torch.set_num_threads(1)
    lightning.seed_everything(0, verbose=False)
    inputs, targets = encoded(config.data, config.target)
    cut = len(inputs) * 4 // 5
    train = DataLoader(TensorDataset(inputs[:cut], targets[:cut]), BATCH, shuffle=True)
    val = DataLoader(TensorDataset(inputs[cut:], targets[cut:]), 512)
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Classifier(inputs.size(1), int(targets.max()) + 1, config.lr), train, val)
    return float(trainer.callback_metrics["val/accuracy"])


if __name__ == "__main__":
    main()
