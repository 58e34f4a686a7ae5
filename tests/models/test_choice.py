"""`model=auto`: which model it is, said with the reason, and the same in predictions."""

from pathlib import Path

import pytest
from support import Command, the_run

from trainer.config.model import AutoModel, Linear
from trainer.data.types import DataSpec
from trainer.models.choice import FEW
from trainer.runs.build import chosen_model


@pytest.mark.parametrize(
    ("shape", "samples", "option"),
    [((3, 8, 8), 50, "cnn"), ((4, 7), 50, "mlp"), ((5,), FEW, "mlp"), ((5,), FEW + 1, "tabular"), ((5,), 0, "mlp")],
)
def test_the_shape_of_a_sample_and_the_size_of_a_table_decide(
    shape: tuple[int, ...], samples: int, option: str
) -> None:
    spec = DataSpec(shape, 2, ("a", "b"), class_counts=(1, 1), samples=samples)
    assert chosen_model(AutoModel(), spec)[0].option == option
    named = Linear()
    assert chosen_model(named, spec) == (named, "")


def test_the_first_screen_says_which_and_why_and_predictions_use_it(
    tmp_path: Path, trainer: Command, train: Command
) -> None:
    rows = "\n".join(f"{i % 7},{'xyz'[i % 3]},{'no' if i % 7 < 3 else 'yes'}" for i in range(200))
    (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}\n")
    said = train("model=auto", "data=csv", "data.path=t.csv", "data.target=y", "trainer.epochs=20", "optimizer.lr=0.01")
    assert "model     mlp (chosen for a table of 160 training rows, up to 2,600)" in said.stdout
    predicted = trainer("predict", str(the_run(tmp_path)), "t.csv", "--proba", "none").stdout.splitlines()
    assert [line.split(",")[1] for line in predicted[1:]] == ["no" if i % 7 < 3 else "yes" for i in range(200)]
