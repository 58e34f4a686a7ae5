"""Images inside Parquet files, as Hugging Face publishes datasets: unpacked once into files, which are read as any."""

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.files.cache import cache_folders, say_where
from trainer.data.images.image_files import EXTENSIONS
from trainer.data.images.label_rows import Rows, table_rows
from trainer.data.images.split_names import split_of
from trainer.data.table.source import typed_kind
from trainer.errors import DataError

BATCH = 256  # images that are in memory at a time
FOLDER_OF_SHARDS = "data"  # in which Hugging Face puts them
PNG = b"\x89PNG"


def image_column(path: Path) -> str | None:
    """Return the column of a Parquet file that has images, as bytes or {bytes, path}; None where there is none."""
    if typed_kind(path) != "parquet":
        return None
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error
    return next((field.name for field in schema if _has_bytes(field.type)), None)


def shards(root: Path) -> list[tuple[Path, str]]:
    """Return the Parquet files with images in a folder, or in data/ in it, with the split that each is named after."""
    found = [path for folder in (root, root / FOLDER_OF_SHARDS) for path in sorted(folder.glob("*.parquet"))]
    return [(path, split_of(path.stem.partition("-")[0]) or "") for path in found if image_column(path) is not None]


def unpacked(path: Path, column: str, root: Path) -> tuple[Path, Rows]:
    """Write the images of a Parquet file into files, unless they are there from before.

    Args:
        path: the Parquet file.
        column: of the images.
        root: the folder of the dataset, in whose cache they are kept; where it cannot be written, in the user's.

    Returns:
        The folder of the images; and the rows of the other columns, the name of a file first in each.

    Raises:
        DataError: where the file is damaged, or no place can be written.
    """
    status = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {column} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    try:
        folder = _folder(path, column, root, f"images-of-{path.stem}-{key}")
        names = {int(file.stem): file.name for file in folder.iterdir()}
        schema = pq.read_schema(path)
        others = [field.name for field in schema if not _has_bytes(field.type)]
        table = pq.read_table(path, columns=others, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}).") from error
    table = pa.table({name: _named(table[name], name, schema) for name in others}) if others else table
    [header, *body] = table_rows(table)
    return folder, [[column, *header], *([names.get(i, ""), *row] for i, row in enumerate(body))]


def _folder(path: Path, column: str, root: Path, name: str) -> Path:
    """Return the folder with the images of a file, which is made whole or not at all."""
    places = cache_folders(root)
    for place in places:
        if (place / name).is_dir():
            return place / name
    made = f"{name}-{uuid.uuid4().hex[:8]}"
    for place in places:
        try:
            (place / made).mkdir(parents=True)
        except OSError:  # read-only: the next folder
            continue
        try:
            for file, content in _images(path, column):
                _write(place / made / file, content)
            with contextlib.suppress(OSError):  # another process may have been faster
                (place / made).rename(place / name)
        finally:
            shutil.rmtree(place / made, ignore_errors=True)
        say_where(place)
        return place / name
    raise DataError(f"{path}: no folder for its images can be written: {', '.join(map(str, places))}.")


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"{file.parent}: the images of a Parquet file cannot be unpacked ({error.strerror})."
        ) from error


def _images(path: Path, column: str) -> Iterator[tuple[str, bytes]]:
    """Yield a file name and the bytes of each image that is there; rows without one are passed over."""
    with pq.ParquetFile(path) as file:
        row = 0
        for batch in file.iter_batches(BATCH, columns=[column]):
            for value in batch.column(0).to_pylist():
                content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
                if content:
                    yield f"{row:08d}{_ending(name, content)}", content
                row += 1


def _ending(name: str | None, content: bytes) -> str:
    """Return an ending of images: what a file holds is known by its bytes when it is decoded."""
    ending = PurePosixPath(name or "").suffix.lower()
    return ending if ending in EXTENSIONS else ".png" if content.startswith(PNG) else ".jpg"


def _has_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _named(values: pa.ChunkedArray, name: str, schema: pa.Schema) -> pa.Array:
    """Return the names of classes in place of their numbers, as Hugging Face keeps them; -1 there is no class."""
    names = _class_names(name, schema)
    if names is None or not pa.types.is_integer(values.type):
        return values
    return pa.array([names[i] if i is not None and 0 <= i < len(names) else None for i in values.to_pylist()])


def _class_names(name: str, schema: pa.Schema) -> Sequence[str] | None:
    """Read the names of the classes of a column from what Hugging Face writes beside the schema."""
    try:
        saved: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = saved["info"]["features"][name]["names"]
    except (ValueError, LookupError, TypeError):
        return None
    return names if isinstance(names, list) and all(isinstance(one, str) for one in names) else None
