"""Draw docs/run.png: the two pictures that a run of the digits leaves in TensorBoard, side by side.

python scripts/readme_picture.py
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TARGET = Path(__file__).parent.parent / "docs" / "run.png"


def main() -> None:
    """Train, read the last picture of each kind from the event file, and paste them together."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "trainer", "train", "data.augment=true"], cwd=folder, check=True)
        events = EventAccumulator(str(next(Path(folder).rglob("tensorboard"))), size_guidance={"images": 0})
        events.Reload()
        names = ("train/images", "val/confusion")
        left, right = (Image.open(io.BytesIO(events.Images(n)[-1].encoded_image_string)) for n in names)
        canvas = Image.new("RGB", (left.width + right.width + 24, max(left.height, right.height)), "white")
        canvas.paste(left, (0, 0))
        canvas.paste(right, (left.width + 24, 0))
        TARGET.parent.mkdir(exist_ok=True)
        canvas.save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
