"""Downloads that may be interrupted, resumed and started twice, and end with the published file or none."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trainer.errors import DataError
from trainer.system import atomic_files, locks, streams
from trainer.system.file_system import say_once
from trainer.system.home import expanded, is_writable, temporary_folder, user_cache

TIMEOUT = 30.0  # seconds without a byte after which a connection counts as lost
ATTEMPTS = 3  # connections in a row at one address that bring nothing
LARGEST = 1 << 32  # bytes; no dataset here is near it
PIECE = 1 << 18
OTHERWISE = "point data.root to the folder that has it. data=digits needs no files at all"


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        name: of the file.
        digest: `md5:…` or `sha256:…`, or as many of its first digits as were published.
        urls: addresses of the file, in the order in which they are tried.
    """

    name: str
    digest: str
    urls: tuple[str, ...]

    def is_at(self, path: Path) -> bool:
        """Return whether the file at `path` is this one, by its digest."""
        algorithm, _, expected = self.digest.partition(":")
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, algorithm).hexdigest().startswith(expected)
        except OSError:
            return False


def datasets_folder(root: str | None) -> Path:
    """Return the folder of the datasets: `data.root`, else `$TRAINER_DATA`, else a cache folder of the user.

    Where the last is not there and cannot be made, it is in the temporary folder.
    """
    if named := root or os.environ.get("TRAINER_DATA"):
        return expanded(named)
    folder = user_cache() / "datasets"
    if folder.is_dir() or is_writable(folder):
        return folder
    other = temporary_folder() / "datasets"
    say_once("datasets", f"{other}: takes the datasets, for {folder} cannot be made; see data.root and TRAINER_DATA.")
    return other


def fetch(remote: Remote, folder: Path, otherwise: str = OTHERWISE) -> Path:
    """Return the path of a published file in `folder`; download it unless it is there.

    What a broken connection or a killed process had received is kept beside it, and the download continues there. The
    file appears under its name only after its digest was verified and it was fsynced. Of several processes one
    downloads, and the others wait for it.

    Args:
        otherwise: what else to do without a network, for the error.

    Raises:
        DataError: where it cannot be downloaded; names what was tried and the way out.
        TrainerError: where the disk does not take it.
    """
    path = folder / remote.name
    if remote.is_at(path):
        return path
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locks.making(folder, remote.digest, lambda: _tell("waiting", f"for another run that downloads {path}")):
            if remote.is_at(path):  # another process has just finished
                return path
            part = folder / f".{remote.name}.part"
            for url in remote.urls:
                try:
                    _download(url, part, remote)
                except (OSError, http.client.HTTPException, ValueError) as error:
                    failures.append(f"{url}: {_reason(error)}")
                    continue
                _publish(part, path)
                return path
    except OSError as error:
        failures.append(f"{folder}: {_reason(error)}")
    there = (
        f"the file there is not the published one ({remote.digest}), and it"
        if path.exists()
        else "it is not there, and"
    )
    raise DataError(
        f"{path}: {there} could not be downloaded ({'; '.join(failures)}). Without a network: put {remote.name} into "
        f"that folder yourself, or {otherwise}."
    )


def _download(url: str, part: Path, remote: Remote) -> None:
    """Download the published file into `part`; what is already there is taken for its beginning."""
    if remote.is_at(part):
        return
    _tell("download", url)
    continued = _size(part) > 0
    while True:
        _receive_all(url, part)
        if remote.is_at(part):
            return
        part.unlink()
        if not continued:
            raise ValueError(f"what arrived is not the published file ({remote.digest}); it was removed")
        continued = False  # the beginning may have been that of another file: once more, from nothing


def _receive_all(url: str, part: Path) -> None:
    """Append to `part` until the server has no more, over as many connections as it takes."""
    fruitless = 0
    while True:
        before = _size(part)
        try:
            _receive(url, part, before)
            return
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not before:
                raise
            part.unlink()  # it is longer than the file
        except (OSError, http.client.HTTPException):
            fruitless = 0 if _size(part) > before else fruitless + 1
            if fruitless == ATTEMPTS:
                raise


def _receive(url: str, part: Path, start: int) -> None:
    """Append what one connection sends from byte `start` on; start again where the server cannot continue there."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        continues = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if continues and not str(response.headers.get("Content-Range")).startswith(f"bytes {start}-"):
            raise http.client.HTTPException("the server continues elsewhere than it was asked to")
        length = response.headers.get("Content-Length")
        received = start if continues else 0
        expected = None if length is None else received + int(length)
        with open(part, "ab" if continues else "wb") as file:
            while piece := response.read(PIECE):
                received += len(piece)
                if received > LARGEST:
                    raise ValueError(f"more than {LARGEST:,} bytes; that cannot be it")
                _write(file, piece, part)
    if expected is not None and received < expected:
        raise ConnectionError(f"cut off after {received:,} of {expected:,} bytes")


def _write(file: BinaryIO, piece: bytes, part: Path) -> None:
    try:
        file.write(piece)
        file.flush()
    except OSError as error:  # of the disk, not of the network
        raise atomic_files.unwritable(part, error) from error


def _publish(part: Path, path: Path) -> None:
    """Give a complete download its final name, durably."""
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)
    atomic_files.sync_directory(path.parent)


def _tell(what: str, rest: str) -> None:
    streams.tell(f"{what:<10}{rest}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
