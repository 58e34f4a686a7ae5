"""Arrays in files: mapped, and digested byte by byte."""

from pathlib import Path

import numpy as np

from trainer.data.files import mapped


def test_a_file_is_mapped_though_it_has_lost_its_name(tmp_path: Path) -> None:
    rows = mapped.FileRows(tmp_path / "x.npy", (3, 2))
    rows.put(1, np.ones((2, 2), dtype=np.float32), slice(None))
    (tmp_path / "x.npy").unlink()
    assert rows.tensor().tolist() == [[0, 0], [1, 1], [1, 1]]


def test_a_digest_is_of_every_byte(tmp_path: Path) -> None:
    size = mapped.PIECE + 3 * mapped.READ + 5  # several pieces, the last of odd size
    path, same = tmp_path / "a", tmp_path / "b"
    for each in (path, same):
        with each.open("wb") as file:
            file.truncate(size)
    before, twin = mapped.digest_files([path, same])
    assert before == twin
    for place in (0, mapped.READ, mapped.PIECE - 1, mapped.PIECE, size - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
            file.flush()
            assert mapped.digest_files([path]) != [before], place
            file.seek(place)
            file.write(b"\0")
    assert mapped.digest_files([path]) == [before]
    with path.open("ab") as file:
        file.write(b"\0")
    assert mapped.digest_files([path]) != [before]
    path.write_bytes(b"")
    assert len(mapped.digest_files([path])[0]) == 32
