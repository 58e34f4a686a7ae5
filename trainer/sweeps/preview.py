"""`train -m ... --dry-run`: the trials of a sweep, with what differs."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.sweeps.definition import Definition


def preview(definition: Definition) -> None:
    """Print every trial with the values of the keys that vary; of suggested ones, what they are suggested from."""
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    if definition.suggested:
        for name in ("key", "from", "to"):
            table.add_column(name, overflow="fold")
        for parameter in definition.varied:
            ends = (", ".join(parameter.values), "") if parameter.values else parameter.ends
            table.add_row(*map(Text, (parameter.key, *ends)))
    else:
        for name in ("trial", *definition.keys):
            table.add_column(Text(name), justify="right", overflow="fold")
        seeds = definition.sweep.seeds
        for number in range(definition.count):
            seed = [str(definition.first_seed + number % seeds)] if seeds > 1 else []
            table.add_row(*map(Text, (f"{number:03d}", *definition.values(number), *seed)))
    console.print(table)
    console.print(f"{definition.count} trials, {definition.sweep.option}: nothing was run", highlight=False)
