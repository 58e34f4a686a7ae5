"""`train`, with one line in a ledger for each step that it makes: python ledgered.py LEDGER WORDS."""

import os
import sys

from trainer import cli
from trainer.data.types import Batch
from trainer.runs import assemble
from trainer.training.step import StepOutput
from trainer.training.trainer import Trainer

END = " end"  # of a whole line in the ledger: a kill may cut a write short


class Ledgered(Trainer):
    """Writes the samples, the rate and the loss of each step."""

    descriptor: int

    def train_step(self, batch: Batch) -> StepOutput:
        output = super().train_step(batch)
        assert batch.positions is not None
        samples = ",".join(map(str, batch.positions.tolist()))
        line = f"{output.step} {samples} {float(output.lr).hex()} {output.loss.item().hex()}{END}\n"
        os.write(self.descriptor, line.encode())
        return output


if __name__ == "__main__":
    Ledgered.descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(Ledgered.descriptor, b"\n")  # after a line that a kill has cut short
    assemble.Trainer = Ledgered
    sys.exit(cli.run("train", sys.argv[2:]))
