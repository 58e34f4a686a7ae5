"""From a sample to a sequence of tokens: the vectors among which attention works."""

import torch
from torch import Tensor, nn

from trainer.data.types import DataSpec
from trainer.errors import ConfigError

MAX_PATCHES = 1024  # with an automatic patch size: the work grows with the square of their number


class PatchTokens(nn.Module):
    """A token for each square patch of an image: its pixels through a linear layer, plus a learned position.

    Dosovitskiy et al. 2021, eq. 1.

    Args:
        channels, height, width: of the images.
        patch: side of a patch in pixels, a divisor of height and width.
        dim: width of a token.

    Shape:
        (B, channels, height, width) float to (B, height / patch · width / patch, dim), row by row.
    """

    def __init__(self, channels: int, height: int, width: int, patch: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.project = nn.Linear(channels * patch * patch, dim)
        # As long as the projected pixels are: at ViT's 0.02, 1,400 digits train to 91 % instead of 98 %.
        self.positions = nn.Parameter(torch.empty(height // patch * (width // patch), dim).normal_(std=0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))  # (B, C, rows, patch, columns, patch)
        tokens: Tensor = self.project(x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        return tokens + self.positions


class ColumnTokens(nn.Module):
    """A token for each column of a table: its value times a learned vector, or the learned vector of its category.

    Gorishniy et al. 2021, section 3.3. A learned bias is added, which says which column it is: no positions are needed.

    Args:
        columns: of the table, those of codes included.
        dim: width of a token.
        cardinalities: the number of category codes of each of the last columns. The vector of code 0, a category that
            was not seen in training, is 0 and stays so.

    Shape:
        (B, columns) float to (B, columns, dim).
    """

    def __init__(self, columns: int, dim: int, cardinalities: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.numbers, bound = columns - len(cardinalities), dim**-0.5
        self.weight = nn.Parameter(torch.empty(self.numbers, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(columns, dim).uniform_(-bound, bound))
        self.tables = nn.ModuleList(nn.Embedding(codes, dim, padding_idx=0) for codes in cardinalities)
        with torch.no_grad():
            for table in self.tables.parameters():
                table[1:].uniform_(-bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, : self.numbers].unsqueeze(-1) * self.weight
        codes = x[:, self.numbers :].long()
        vectors = [table(codes[:, i]).unsqueeze(1) for i, table in enumerate(self.tables)]
        return torch.cat([tokens, *vectors], 1) + self.bias


def tokens_for(spec: DataSpec, dim: int, patch: int | None) -> nn.Module:
    """Make the module that turns samples into tokens: patches of images, or columns of tables.

    Args:
        spec: the shape of the samples.
        dim: width of a token.
        patch: side of a patch in pixels; None: as `choose_patch` says.

    Raises:
        ConfigError: for samples that are neither, and for a patch that does not divide the image.
    """
    if len(spec.input_shape) == 1:
        if patch is not None:
            raise ConfigError(
                f"model.patch_size={patch}: the data is a table of {spec.features} "
                f"column{'s' * (spec.features != 1)}, each a token; patches are of images. Leave it null."
            )
        return ColumnTokens(spec.features, dim, spec.cardinalities)
    if len(spec.input_shape) != 3:
        raise ConfigError(
            "model=attention needs images (channels × height × width) or tables (columns), but the data gives samples "
            f"of shape {spec.shape_words()}; use model=mlp."
        )
    channels, height, width = spec.input_shape
    if patch is None:
        patch = choose_patch(height, width)
        if patch is None:
            raise ConfigError(
                f"model.patch_size=null: no patch of up to 16 pixels divides images of {height}×{width} into at most "
                f"{MAX_PATCHES}; use images of a size that 8 or 16 divides (data.image_size), or set model.patch_size."
            )
    elif height % patch or width % patch:
        common = [size for size in range(1, min(height, width) + 1) if height % size == 0 and width % size == 0]
        raise ConfigError(
            f"model.patch_size={patch}: must divide the images of {height}×{width}; "
            f"possible: {', '.join(map(str, common))}."
        )
    return PatchTokens(channels, height, width, patch, dim)


def choose_patch(height: int, width: int) -> int | None:
    """Choose the largest patch of up to 16 pixels a side that gives 7 patches or more along the shorter side.

    For sides below 28 pixels, 4 or more. 2 for 8×8, 4 for 28×28 and 32×32, 8 for 64×64, 16 for 224×224. None: no
    divisor is large enough.
    """
    side = min(height, width)
    fewest = 7 if side >= 28 else 4
    sizes = [size for size in range(16, 0, -1) if height % size == 0 and width % size == 0 and side // size >= fewest]
    size = sizes[0] if sizes else 1
    return size if (height // size) * (width // size) <= MAX_PATCHES else None
