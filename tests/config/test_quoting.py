"""Names on their way: into an override, through the grammars of Hydra and OmegaConf, into a command and a shell."""

import random
import shlex
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from trainer.config import compose
from trainer.config.quoting import import_flags, shell_command, typed_override
from trainer.errors import ConfigError

NASTY = [
    "my runs", "a,b", "x=1", "v[2]", "v[two]", "it's", 'say "x"', "p(1)", "{a}", "{a:1}", "ünï", "#1", "50%", "a:b",
    ":dog:", "[red]", "[/red]", "$HOME", "${x}", "${oc.env:HOME}", "\\${x}", "\\\\${x}", "b\\c", "end\\", "\\", "\\\\",
    "\\'", '\\"', "~", "~root/x", "tilde~1", "null", "TRUE", "false", "inf", "-NaN", "nan.x", "1", "007", "1_0", "1e3",
    ".5", "5.", "+1", "-1", "../a", "./1", "/", "a b ", " a", "\ta", "a*b", "?", "a|b", "a;b", "a&b", "`id`", "$(id)",
    "a!b", "<x>", "@", "+a", "a@b", "a/b:c", "choice(1,2)", "range(3)", "glob(*)", "a\nb", "",
]  # fmt: skip
PIECES = [
    "\\",
    "'",
    '"',
    "$",
    "{",
    "}",
    "${",
    "[",
    "]",
    "(",
    ")",
    ",",
    "=",
    ":",
    " ",
    "~",
    "#",
    "%",
    "@",
    "+",
    "-",
    ".",
]
PIECES += ["|", "*", "?", "&", ";", "!", "`", "<", ">", "/", "null", "1e3", "ü", "犬", "a", "B", "_", ":dog:", "[red]"]


def names() -> list[str]:
    draw = random.Random(0)
    return NASTY + ["".join(draw.choices(PIECES, k=draw.randint(1, 8))) for _ in range(250)]


def read_back(override: str) -> object:
    """The value that a config gets from an override."""
    [parsed] = compose.parse([override])
    assert not parsed.is_sweep_override()
    value = OmegaConf.to_container(OmegaConf.create({"value": parsed.value()}), resolve=True)
    assert isinstance(value, dict)
    return value["value"]


def test_a_name_comes_back_from_an_override_and_from_a_command() -> None:
    for name in names():
        override = typed_override("resume", name)
        assert read_back(override) == name, override
        assert Path(str(read_back(typed_override("resume", Path(name))))).absolute() == Path(name).absolute()
        command = shell_command("train", *import_flags(["my plug-in.py"]), override, "trainer.epochs=4")
        assert shlex.split(command) == ["train", "--import", "my plug-in.py", override, "trainer.epochs=4"]


def test_a_shell_reads_the_words_of_commands_as_they_were() -> None:
    words = [typed_override("resume", name) for name in names()]
    script = "\n".join(shell_command("printf", "%s\\0", word) for word in words)
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode() == "".join(f"{word}\0" for word in words)


def test_lists_and_plain_values_come_back_as_they_were() -> None:
    assert read_back(typed_override("x", names())) == names()
    for value in (None, True, False, 3, -1, 2.5, 1e-05, 1e300, [1, "a", None], []):
        assert read_back(typed_override("x", value)) == value


def test_a_folder_called_tilde_is_not_somebodys_home() -> None:
    override = typed_override("resume", Path("~me/runs"))
    assert read_back(override) == str(Path.cwd() / "~me" / "runs")


def test_what_needs_no_quotes_has_none() -> None:
    command = shell_command("train", typed_override("resume", Path("outputs/2026-11-22/14-03-51-k3f9")))
    assert command == "train resume=outputs/2026-11-22/14-03-51-k3f9"


@pytest.mark.parametrize("folder", ["my, [a]", "x=(1)", 'it\'s "q"\\', "${x}", "\\${x}#1", "ü~%:b", "b\\c", "null"])
def test_a_folder_of_configs_may_have_any_name(folder: str, tmp_path: Path) -> None:
    experiments = tmp_path / folder / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert compose.compose(["experiment=mine"], [tmp_path / folder]).seed == 7


def test_an_experiment_may_have_a_name_that_needs_quotes(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "my one.yaml").write_text("# @package _global_\nseed: 7\n")
    assert compose.compose([typed_override("experiment", "my one")], [tmp_path]).seed == 7


@pytest.mark.parametrize("name", ["it's", "x=(1", "[red"])
def test_what_the_grammar_refuses_is_answered_with_what_to_paste(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose.parse([f"output_dir={name}"])
    advice = str(caught.value).partition("as in ")[2].rpartition(" (")[0]
    [word] = shlex.split(advice)
    assert read_back(word) == name
