"""Small pictures for TensorBoard, drawn with Pillow: quick enough for every validation."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from trainer.loggers.base import LogRecord

Pixels = np.ndarray  # uint8 (height, width, 3)


def image_grid(images: Tensor, labels: list[str] | None, columns: int = 8, side: int = 96) -> Pixels:
    """Draw images (N, C, H, W) in [0, 1] in rows of `columns`, each enlarged to `side` pixels over its label."""
    font = ImageFont.load_default(12)
    text_height = 18 if labels else 2
    rows = -(-len(images) // columns)
    canvas = Image.new("RGB", (columns * (side + 4), rows * (side + text_height + 2)), "white")
    draw = ImageDraw.Draw(canvas)
    for i, image in enumerate(images):
        pixels = (image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)).mul(255).round()
        tile = Image.fromarray(pixels.permute(1, 2, 0).to(torch.uint8).numpy()).resize(
            (side, side), Image.Resampling.NEAREST
        )
        x, y = (i % columns) * (side + 4) + 2, (i // columns) * (side + text_height + 2) + 2
        canvas.paste(tile, (x, y))
        if labels:
            draw.text((x, y + side + 2), labels[i][:14], fill="black", font=font)
    return np.array(canvas)


def confusion_picture(matrix: Tensor, labels: tuple[str, ...], cell: int = 36) -> Pixels:
    """Draw a confusion matrix: rows are true classes, columns predictions; darker is more of its row."""
    classes = len(labels)
    counted = classes <= 20
    cell = cell if counted else max(2, 720 // classes)
    font, margin = ImageFont.load_default(11), 110 if counted else 24
    canvas = Image.new("RGB", (margin + classes * cell + 8, margin + classes * cell + 8), "white")
    draw = ImageDraw.Draw(canvas)
    shares = matrix.double() / matrix.sum(1, keepdim=True).clamp(min=1)
    for row in range(classes):
        for column in range(classes):
            share = float(shares[row, column])
            x, y = margin + column * cell, margin + row * cell
            fill = tuple(round(255 - share * (255 - full)) for full in (20, 50, 120))
            draw.rectangle([x, y, x + cell - 1, y + cell - 1], fill=fill)
            if counted and matrix[row, column]:
                ink = "white" if share > 0.5 else "black"
                draw.text((x + 3, y + cell // 3), str(int(matrix[row, column])), fill=ink, font=font)
        if counted:
            draw.text((4, margin + row * cell + cell // 3), labels[row][:15], fill="black", font=font)
            _upright(canvas, labels[row][:15], margin + row * cell + cell // 3, margin, font)
    draw.text((4, 4), "rows: true\ncolumns: predicted", fill="black", font=font)
    return np.array(canvas)


def _upright(
    canvas: Image.Image, text: str, x: int, bottom: int, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont"
) -> None:
    """Draw text from bottom to top, ending at `bottom`."""
    width = int(font.getlength(text)) + 2
    label = Image.new("RGB", (width, 16), "white")
    ImageDraw.Draw(label).text((0, 0), text, fill="black", font=font)
    canvas.paste(label.rotate(90, expand=True), (x, bottom - width - 2))


def pictures(record: LogRecord, labels: tuple[str, ...] | None) -> dict[str, Pixels]:
    """Return the pictures that a record gives, by name."""
    drawn: dict[str, Pixels] = {}
    if record.images is not None:
        drawn["train/images"] = image_grid(record.images, record.labels)
    if record.confusion is not None and labels is not None:
        drawn["val/confusion"] = confusion_picture(record.confusion, labels)
    return drawn
