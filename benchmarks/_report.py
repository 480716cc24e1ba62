"""Writes the tables of benchmarks/RESULTS.md, one section a benchmark."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("RESULTS.md")


def report(name: str, command: str, rows: Sequence[Mapping[str, object]], path: Path = RESULTS) -> str:
    """Print a table and put it into the section `name` of `path`, in place of the section's earlier text.

    Args:
        name: title of the section.
        command: how to make the table again.
        rows: the table, one mapping of column to value a row; the first row names the columns.
        path: the file.

    Returns:
        The table, as markdown.
    """
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([str(row.get(column, "")) for column in columns] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    section = f"## {name}\n\n`{command}`\n\n{table}\n\n{machine()}\n"
    text = path.read_text(encoding="utf-8") if path.exists() else "# Measured\n"
    earlier = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if earlier.search(text):
        text = earlier.sub(lambda _: section + "\n", text)
    else:
        text = f"{text.rstrip()}\n\n{section}"
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(table)
    return table


def machine() -> str:
    """One line on what measured: processor, cores, torch, date."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, {date.today().isoformat()}"
