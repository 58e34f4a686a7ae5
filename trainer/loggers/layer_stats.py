"""How gradients flow through the layers: `gradients.jsonl` while training, `gradient_flow.png` at the end."""

import io
import math
import statistics
from pathlib import Path
from typing import Any

from trainer.loggers.base import LogRecord
from trainer.loggers.files import Lines, read_rows
from trainer.system import atomic_files

LEAST = 1e-50  # no number of a float32 that is not 0 is smaller
LABELS = 60  # layers that are named below the picture; of more, every second, third, ... one


class LayerStatsLogger:
    """Appends the gradients and updates of each layer; draws them when the run ends.

    Args:
        directory: of the run.
        start_step: lines after it are cut, and the picture with them.
    """

    def __init__(self, directory: Path, start_step: int = 0) -> None:
        self.picture = directory / "gradient_flow.png"
        self.lines = Lines(directory / "gradients.jsonl")
        self._layers: list[str] = []
        self.rewind(start_step)

    def write(self, record: LogRecord) -> None:
        """Append a line, where layers were measured."""
        if record.gradients:
            self.lines.append({"step": record.step, "layers": record.gradients})
            self._layers = list(record.gradients)

    def flush(self) -> None:
        """Fsync the lines."""
        self.lines.sync()

    def rewind(self, step: int) -> None:
        """Cut the lines after `step`; a picture that showed them is gone."""
        if self.lines.cut(step):
            self.picture.unlink(missing_ok=True)

    def close(self, summary: dict[str, Any]) -> None:
        """Draw what was recorded, if anything was, and close the file."""
        self.lines.close()
        rows = read_rows(self.lines.path)
        if rows and self._layers:
            atomic_files.write_bytes(self.picture, draw(rows, self._layers))


def draw(rows: list[dict[str, Any]], layers: list[str]) -> bytes:
    """Return a PNG of the typical step: medians over the rows, from the first layer to the last."""
    from matplotlib.figure import Figure

    mean, largest, ratio = (
        [_median(rows, layer, key) for layer in layers] for key in ("gradient_mean", "gradient_max", "update_ratio")
    )
    places = range(len(layers))
    figure = Figure(figsize=(min(5 + 0.3 * len(layers), 24), 7.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.bar(
        [x - 0.2 for x in places], largest, 0.4, color="0.8", edgecolor="black", hatch="//", label="largest |gradient|"
    )
    top.bar([x + 0.2 for x in places], mean, 0.4, color="0.25", edgecolor="black", label="mean |gradient|")
    figure.suptitle(f"Gradient flow: median of {len(rows)} records, steps {rows[0]['step']:,} to {rows[-1]['step']:,}")
    top.set_ylabel("magnitude, before clipping")
    bottom.bar(places, ratio, 0.6, color="0.55", edgecolor="black", label="|update| / |weights|")
    bottom.axhline(1e-3, color="black", linestyle="--", linewidth=1, label="1e-3: a common rule of thumb")
    bottom.set_ylabel("update / weights")
    bottom.set_xlabel("layer, input to output")
    for axes, shown in ((top, mean + largest), (bottom, ratio)):
        positive = [value for value in shown if value > 0]
        if positive:  # whole decades: the smallest bar is to be seen too
            decades = math.floor(math.log10(min(positive) / 1.5)), math.ceil(math.log10(max(positive)))
            axes.set(yscale="log", ylim=tuple(10.0**decade for decade in decades))
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    every = -(-len(layers) // LABELS)
    bottom.set_xticks(places[::every], layers[::every], rotation=90, parse_math=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=100)
    return image.getvalue()


def _median(rows: list[dict[str, Any]], layer: str, key: str) -> float:
    """Return the median over the rows that have the number; NaN, which is not drawn, where none fits on a log scale."""
    values = [
        value
        for row in rows
        if isinstance(layers := row.get("layers"), dict)
        and isinstance(numbers := layers.get(layer), dict)
        and isinstance(value := numbers.get(key), float)
        and LEAST < value < 1 / LEAST
    ]
    return statistics.median(values) if values else math.nan
