"""Write the YAML files of conf/ and the options and settings in README.md from the dataclasses of trainer/config.

python scripts/write_conf.py            write them
python scripts/write_conf.py --check    write nothing; exit 1 and name the files that differ

Hand-written are conf/train.yaml and conf/experiment/.
"""

import argparse
import inspect
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from trainer.config import registry
from trainer.config.root import Config  # registers every option
from trainer.config.section import Section
from trainer.config.yaml_files import OPTIONS

REPOSITORY = Path(__file__).parent.parent
HANDWRITTEN = ("train.yaml", "experiment")  # of conf/
BEGIN = "<!-- options and settings, written by scripts/write_conf.py -->"
END = "<!-- end of options and settings -->"


def main() -> int:
    """Write or compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="the folder that holds conf/ and README.md")
    args = parser.parse_args()
    conf, wanted = args.root / "conf", contents(args.root)
    others = {path for path in conf.rglob("*") if path.is_file()} - wanted.keys()
    surplus = sorted(path for path in others if path.relative_to(conf).parts[0] not in HANDWRITTEN)
    differing = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in differing:
        print(f"{path.relative_to(args.root)}: {'not what the dataclasses say' if args.check else 'written'}")
        if not args.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
    for path in surplus:
        print(f"{path.relative_to(args.root)}: no registered option has this name; remove the file")
    if args.check and differing:
        print("Change keys in trainer/config/, then run: python scripts/write_conf.py")
    return 1 if surplus or (args.check and differing) else 0


def contents(root: Path) -> dict[Path, str]:
    """Return every file that is written, and its whole text."""
    experiments = sorted(path.stem for path in (root / "conf" / "experiment").glob("*.yaml"))
    files = {root / "README.md": with_options((root / "README.md").read_text("utf-8"), experiments)}
    for group in OPTIONS:
        for name in registry.names(group):
            files[root / "conf" / group / f"{name}.yaml"] = option_yaml(registry.lookup(group, name))
    return files


def option_yaml(component: type[Section]) -> str:
    """Return the YAML file of an option: its line of doc, its schema, and each key with its default."""
    keys = component.keys()
    lines = [f"# {inspect.getdoc(component)}".splitlines()[0]]
    lines += [f"defaults: [_{component.option}{', _self_' if keys else ''}]"]
    lines += [""] if keys else []
    for name, (kind, default, about) in keys.items():
        allowed = about.allowed() or ("true | false" if kind == "bool or null" else "")  # a default of null hides it
        lines.append(f"{name}: {literal(default)}  # {about.doc}{f' [{allowed}]' if allowed else ''}")
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """Return a default as YAML, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=sys.maxsize)
    return text.removesuffix("\n").removesuffix("\n...")


def with_options(readme: str, experiments: list[str]) -> str:
    """Return the README with the options of every group and the keys of `trainer` between the two markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"README.md: the lines {BEGIN} and {END} are missing; the options are written between them.")
    options = {group: registry.names(group) for group in OPTIONS} | {"experiment": experiments}
    rows = [f"| `{group}` | {quoted(names)} |" for group, names in options.items()]
    table = "\n".join(["| group | options |", "|---|---|", *rows])
    settings = quoted(registry.lookup("trainer", Config().trainer.option).keys())
    text = textwrap.fill(f"The settings of the engine are `trainer.*`: {settings}.", 120)
    return f"{before}{begin}\n{table}\n\n{text}\n{end}{after}"


def quoted(names: Iterable[str]) -> str:
    """Return names as code in Markdown, side by side."""
    return " ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(main())
