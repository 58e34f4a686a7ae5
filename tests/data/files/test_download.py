"""Downloads from a real server that cuts connections, ignores ranges, gives the wrong file or none."""

import hashlib
import resource
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import AnyProcess
from warm import python

from trainer.data.files.download import ATTEMPTS, Remote, datasets_folder, fetch
from trainer.errors import DataError, TrainerError

CONTENT = bytes(range(256)) * 4000  # a megabyte
PROGRAM = """
import sys
from pathlib import Path
from trainer.data.files.download import Remote, fetch
print(fetch(Remote("file.bin", sys.argv[1], (sys.argv[2],)), Path(sys.argv[3])))
"""


class Server(ThreadingHTTPServer):
    """Serves one file, as it is told to.

    Attributes:
        content: of the file.
        cuts: after how many bytes each of the next connections is cut.
        ranges: whether it continues where it is asked to.
        status: what it answers.
        asked: the Range header of each request, "" without one.
        gate: whole answers wait for it before their last byte.
        length_known: whether it says how long the file is.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.ranges, self.status = CONTENT, list[int](), True, 200
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.length_known = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if server.status != 200:
            self.send_error(server.status)
            return
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if server.length_known:
            self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        if server.cuts:
            self.wfile.write(body[: server.cuts.pop(0)])
            return  # and the connection is closed
        self.wfile.write(body[:-1])
        server.gate.wait(30)
        self.wfile.write(body[-1:])

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def remote(*urls: str, content: bytes = CONTENT, algorithm: str = "sha256") -> Remote:
    return Remote("file.bin", f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}", urls)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_file_is_downloaded_once(server: Server, tmp_path: Path, algorithm: str) -> None:
    wanted = remote(server.url, algorithm=algorithm)
    for _ in range(2):
        path = fetch(wanted, tmp_path / "new" / "folder")
        assert path == tmp_path / "new" / "folder" / "file.bin"
        assert path.read_bytes() == CONTENT
    assert server.asked == [""]
    assert files(path.parent) == [".lock", "file.bin"]


def test_a_file_that_is_there_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert fetch(remote("http://127.0.0.1:9/file.bin"), tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == ["file.bin"]


def test_what_a_cut_connection_brought_is_continued(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 500_000, 7]
    assert fetch(remote(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=1000-", "bytes=501000-", "bytes=501007-"]


def test_what_a_killed_process_brought_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(CONTENT[:12345])
    assert fetch(remote(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=12345-"]


def test_what_had_arrived_whole_is_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / ".file.bin.part").write_bytes(CONTENT)
    assert fetch(remote("http://127.0.0.1:9/file.bin"), tmp_path).read_bytes() == CONTENT


def test_a_server_that_cannot_continue_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [1000]
    assert fetch(remote(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=1000-"]


def test_a_server_that_does_not_say_how_much_it_sends_is_checked_by_the_digest(server: Server, tmp_path: Path) -> None:
    server.length_known, server.cuts = False, [1000]
    with pytest.raises(DataError, match="not the published file"):
        fetch(remote(server.url), tmp_path)
    assert fetch(remote(server.url), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("beginning", [b"of another file", CONTENT + b"and more"])
def test_a_beginning_of_another_file_is_thrown_away(server: Server, tmp_path: Path, beginning: bytes) -> None:
    (tmp_path / ".file.bin.part").write_bytes(beginning)
    assert fetch(remote(server.url), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(beginning)}-", ""]


def test_a_wrong_file_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(DataError, match="not the published file") as caught:
        fetch(remote(server.url), tmp_path)
    assert server.url in str(caught.value)
    assert files(tmp_path) == [".lock"]
    assert server.asked == [""]


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    with Server() as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        other.status = 404
        assert fetch(remote(other.url, "http://127.0.0.1:9/x", server.url), tmp_path).read_bytes() == CONTENT
        assert other.asked == [""]
        other.shutdown()
    assert server.asked == [""]


def test_a_server_that_brings_nothing_is_given_up(server: Server, tmp_path: Path) -> None:
    server.cuts = [0] * 20
    with pytest.raises(DataError, match=r"cut off after 0 of 1,024,000 bytes"):
        fetch(remote(server.url), tmp_path)
    assert len(server.asked) == ATTEMPTS


def test_a_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1] + b"!")
    assert fetch(remote(server.url), tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_stays_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"damaged")
    with pytest.raises(
        DataError, match=r"file\.bin: the file there is not the published one \(sha256:.*Without a network"
    ):
        fetch(remote("http://127.0.0.1:9/file.bin"), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == b"damaged"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="file/folder"):
        fetch(remote("http://127.0.0.1:9/file.bin"), tmp_path / "file" / "folder")


def test_what_the_disk_does_not_take_is_an_error_of_the_disk(server: Server, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(TrainerError, match=r"part: cannot be written \(File too large\)"):
            fetch(remote(server.url), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(server.asked) == 1
    assert fetch(remote(server.url), tmp_path).read_bytes() == CONTENT


def start(server: Server, folder: Path) -> AnyProcess:
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return python("-c", PROGRAM, digest, server.url, str(folder), cwd=folder, **pipes)


def test_of_two_processes_one_downloads_and_the_other_waits(server: Server, tmp_path: Path) -> None:
    server.gate.clear()
    processes = [start(server, tmp_path) for _ in range(2)]
    for process in processes:  # both have begun once both have opened the lock
        while process.poll() is None and not any(
            path.resolve().name == ".lock" for path in Path(f"/proc/{process.pid}/fd").iterdir()
        ):
            threading.Event().wait(0.01)
    told = []
    for process in processes:
        assert process.stderr is not None
        told.append(process.stderr.readline())
    assert sorted(told) == [
        f"download  {server.url}\n",
        f"waiting   for another run that downloads {tmp_path / 'file.bin'}\n",
    ]
    server.gate.set()
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert Path(output.strip()).read_bytes() == CONTENT
    assert server.asked == [""]


def test_two_files_of_one_folder_do_not_wait_for_one_another(server: Server, tmp_path: Path) -> None:
    server.gate.clear()
    first = start(server, tmp_path)
    assert first.stderr is not None and first.stderr.readline().startswith("download")
    with Server() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        other.content = b"another file"
        found = fetch(Remote("other.bin", remote(content=other.content).digest, (other.url,)), tmp_path)
        other.shutdown()
    assert found.read_bytes() == b"another file" and first.poll() is None
    server.gate.set()
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_where_the_one_that_downloads_is_killed_the_other_goes_on(server: Server, tmp_path: Path) -> None:
    server.gate.clear()
    first = start(server, tmp_path)
    part = tmp_path / ".file.bin.part"
    while not part.exists() or not part.stat().st_size:
        assert first.poll() is None
        threading.Event().wait(0.01)
    second = start(server, tmp_path)
    first.kill()
    first.communicate()
    server.gate.set()
    output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert Path(output.strip()).read_bytes() == CONTENT
    assert len(server.asked) == 2
    assert server.asked[1].startswith("bytes=")


def test_the_folder_is_the_given_one_or_that_of_the_environment_or_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TRAINER_DATA", raising=False)
    assert datasets_folder(None) == tmp_path / "cache" / "trainer" / "datasets"
    monkeypatch.setenv("TRAINER_DATA", str(tmp_path / "shared"))
    assert datasets_folder(None) == tmp_path / "shared"
    assert datasets_folder(str(tmp_path / "own")) == tmp_path / "own"
