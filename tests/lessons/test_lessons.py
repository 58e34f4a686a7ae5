"""The lessons: each runs as a process of its own in an empty folder, holds its facts and draws what it names."""

import ast
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from support import AnyProcess, finish
from warm import python

from trainer import cli
from trainer.commands import learn

LESSONS = learn.lessons()
SEEDS = ("0", "1")


@dataclass
class Done:
    """A lesson that has ended."""

    folder: Path
    code: int
    output: str
    error: str


def begin(folder: Path, *command: str) -> AnyProcess:
    """Start a lesson, or a command that does."""
    return python(*command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process: AnyProcess, folder: Path) -> Done:
    done = finish(process, code=None, timeout=240)
    return Done(folder, done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module", params=LESSONS, ids=lambda path: path.stem)
def lesson(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def runs(lesson: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> list[Done]:
    """A lesson with one of the seeds, in turn, or with `--full` with each, side by side: one thread each."""
    seeds = SEEDS if pytestconfig.getoption("full") else SEEDS[LESSONS.index(lesson) % 2 :][:1]
    folders = [tmp_path_factory.mktemp("lesson") for _ in seeds]
    processes = [begin(folder, str(lesson), "--seed", seed) for folder, seed in zip(folders, seeds, strict=True)]
    return [end(process, folder) for process, folder in zip(processes, folders, strict=True)]


def test_a_lesson_holds_its_facts_whatever_the_seed_and_prints(runs: list[Done]) -> None:
    for done in runs:
        assert (done.code, done.error) == (0, ""), done.output
        assert len(done.output.splitlines()) > 20


def test_every_picture_that_a_lesson_names_is_in_its_run_directory(runs: list[Done], lesson: Path) -> None:
    source = lesson.read_text(encoding="utf-8")
    for done in runs:
        pictures = re.findall(r"^picture  (.+)$", done.output, re.MULTILINE)
        assert len(pictures) >= source.count("lesson.figure(")
        for name in pictures:
            assert re.fullmatch(r"outputs/fundamentals/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-\w{4}/\w+\.png", name)
            with Image.open(done.folder / name) as image:
                assert image.format == "PNG"
                colors = image.convert("RGB").getcolors(maxcolors=1 << 24)
                assert colors is not None and len(colors) > 1
        assert {path.name for path in done.folder.iterdir()} <= {"outputs"}, "nothing beside the run directory"


def test_the_page_has_the_lesson_and_its_pictures(runs: list[Done], lesson: Path) -> None:
    docs = lesson.parents[2] / "docs"
    page = (docs / "fundamentals.md").read_text(encoding="utf-8")
    how = "write the page anew: python scripts/fundamentals_page.py"
    assert f"`trainer learn {learn.name_of(lesson)}`" in page, how
    assert learn.about(lesson) in page, how
    for name in re.findall(r"^picture  .+/(\w+\.png)$", runs[0].output, re.MULTILINE):
        shown = f"fundamentals/{lesson.stem[:2]}_{name}"
        assert f"]({shown})" in page, how
        assert 0 < (docs / shown).stat().st_size < 60_000


def test_help_names_the_options_of_every_lesson(tmp_path: Path) -> None:
    # One process for all: importing torch takes longer than everything else here.
    code = (
        "import pathlib, runpy, sys\n"
        "for path in map(pathlib.Path, sys.argv[1:]):\n"
        "    sys.path[0], sys.argv = str(path.parent), [path.name, '--help']\n"
        "    try: runpy.run_path(str(path), run_name='__main__')\n"
        "    except SystemExit as stop: print('exit', stop.code)\n"
    )
    done = end(begin(tmp_path, "-c", code, *map(str, LESSONS)), tmp_path)
    helps = done.output.split("exit 0\n")
    assert helps.pop() == "" and len(helps) == len(LESSONS), done.error
    for path, text in zip(LESSONS, helps, strict=True):
        assert text.startswith(f"usage: {path.name} ")
        assert all(f"  {option} " in text for option in ("--seed", "--device", "--output-dir"))
    assert list(tmp_path.iterdir()) == []


def test_a_lesson_is_short_and_asserts(lesson: Path) -> None:
    source = lesson.read_text(encoding="utf-8")
    checks = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    assert len(checks) + source.count("assert_close(") >= 3
    assert source.count("\n") <= 140


def test_a_lesson_with_a_false_fact_fails(tmp_path: Path) -> None:
    original = learn.find_lesson("autograd")
    source = original.read_text(encoding="utf-8")
    fact = '"y.backward(); x.grad, which is 2x + 3", x.grad).item() == 7'
    assert source.count(fact) == 1
    copy = tmp_path / original.name
    copy.write_text(source.replace(fact, fact[:-1] + "8"), encoding="utf-8")
    (tmp_path / "lesson.py").write_text((original.parent / "lesson.py").read_text(encoding="utf-8"), encoding="utf-8")
    done = end(begin(tmp_path, str(copy)), tmp_path)
    assert done.code == 1
    assert done.error.rstrip().endswith("AssertionError")
    assert "==" in done.error


def test_a_device_that_is_not_there_is_refused_in_one_message(tmp_path: Path) -> None:
    done = end(begin(tmp_path, str(LESSONS[0]), "--device", "gpu"), tmp_path)
    assert (done.code, done.output) == (2, "")
    assert re.fullmatch(r"error: .*gpu.*\n", done.error)


def test_the_list_gives_every_lesson_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("learn", []) == 0
    listed = re.findall(r"^ +(\d+)  (\w+) +(\w.*)$", capsys.readouterr().out, re.MULTILINE)
    assert [(int(number), name) for number, name, _ in listed] == [
        (int(path.stem[:2]), path.stem[3:]) for path in LESSONS
    ]
    assert all(20 < len(about) < 80 for _, _, about in listed)
    assert [number for number, _, _ in listed] == sorted({number for number, _, _ in listed}, key=int)


def test_the_index_script_is_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run("learn", [])
    index = learn.lessons_dir() / "00_index.py"
    done = end(begin(tmp_path, str(index)), tmp_path)
    assert (done.code, done.output, done.error) == (0, capsys.readouterr().out, "")
    done = end(begin(tmp_path, str(index), "reshaping", "--help"), tmp_path)
    assert done.output.startswith("usage: 02_reshaping.py")


def test_learn_runs_a_lesson_with_its_options(tmp_path: Path) -> None:
    done = end(begin(tmp_path, "-m", "trainer", "learn", "1", "--seed", "3", "--output-dir", "mine"), tmp_path)
    assert (done.code, done.error) == (0, "")
    assert done.output.startswith("Tensors")
    assert len(list(tmp_path.glob("mine/*/*/*.png"))) == 1


@pytest.mark.parametrize("wanted", ["4", "04", "autograd", "04_autograd", "04_autograd.py"])
def test_a_lesson_has_a_number_and_a_name(wanted: str) -> None:
    assert learn.find_lesson(wanted).name == "04_autograd.py"


@pytest.mark.parametrize(
    ("wanted", "hint"), [("autogard", "Did you mean 'autograd'?"), ("99", "4 autograd"), ("0", "1")]
)
def test_a_lesson_that_does_not_exist_is_refused(wanted: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run("learn", [wanted]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: trainer learn {wanted}: no such lesson.")
    assert hint in printed.err and printed.err.count("\n") == 1
