"""Compares the excerpts on the pages with the programs that they are taken from."""

import re
from pathlib import Path

from pages import Block, Problem

# A test builds and runs every program of these folders.
PROGRAM_FOLDERS = ("plugin-tests/examples/", "plugin-tests/hosts/")
SUFFIXES = {"c": {".c", ".h"}, "cpp": {".cpp", ".hpp"}, "rust": {".rs"}, "python": {".py"}}
# A line that stands for lines which are left out: `…`, alone or as a comment.
GAP = re.compile(r"^\s*(//|#|/\*)?\s*…\s*(\*/)?\s*$")


def check_excerpt(root: Path, block: Block) -> list[Problem]:
    """The first difference between an excerpt and its program."""
    assert block.marker is not None
    file = block.marker.argument
    folders = " or ".join(PROGRAM_FOLDERS)
    if not file:
        return [block.problem("the excerpt names no program", "write <!-- excerpt: FILE -->")]
    if block.language not in SUFFIXES:
        return [block.problem(f"an excerpt has the language {block.language!r}", "use c, cpp, rust or python")]
    if not file.startswith(PROGRAM_FOLDERS):
        return [block.problem(f"no test runs {file}", f"name a program in {folders}")]
    if not (root / file).is_file():
        return [block.problem(f"there is no program {file}", f"name an existing one in {folders}")]
    if Path(file).suffix not in SUFFIXES[block.language]:
        return [block.problem(f"{file} is not written in {block.language}", "correct the language or the file")]
    return compare(block, file, (root / file).read_text().splitlines())


def compare(block: Block, file: str, program: list[str]) -> list[Problem]:
    """Each part must follow the one before it. The earliest match of a part leaves most lines for
    the parts after it, so there is no need to try others."""
    parts = parts_of(block.lines)
    if not parts:
        return [block.problem("the excerpt is empty", f"copy lines of {file}")]
    start = 0
    for offset, part in parts:
        last = len(program) - len(part)
        found = next((at for at in range(start, last + 1) if matches(part, program, at) == len(part)), None)
        if found is None:
            return [difference(block, offset, part, file, program, start)]
        start = found + len(part)
    return []


def parts_of(lines: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    """The contiguous parts, each with its distance from the fence, without blank lines around it."""
    parts: list[tuple[int, list[str]]] = []
    is_new = True
    for offset, line in enumerate(lines, 1):
        if GAP.match(line):
            is_new = True
        elif is_new and line.strip():
            parts.append((offset, [line.rstrip()]))
            is_new = False
        elif not is_new:
            parts[-1][1].append(line.rstrip())
    for _, part in parts:
        while not part[-1]:
            part.pop()
    return parts


def matches(part: list[str], program: list[str], at: int) -> int:
    """How many lines of a part are those of the program from `at` on. The page may have less
    indentation, by the same number of columns in all lines."""
    indent = indentation(program[at]) - indentation(part[0])
    if indent < 0:
        return 0
    for count, line in enumerate(part):
        expected = " " * indent + line if line else ""
        if at + count == len(program) or program[at + count].rstrip() != expected:
            return count
    return len(part)


def indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def difference(
    block: Block, offset: int, part: list[str], file: str, program: list[str], start: int
) -> Problem:
    """Describes where the part differs from the place in the program that has most of its lines."""
    fix = f"copy the lines of {file} again, with a line … for lines that are left out"
    best = max(range(start, len(program)), key=lambda at: matches(part, program, at), default=None)
    count = matches(part, program, best) if best is not None else 0
    if best is None or count == 0:
        where = f"{file} has no such line" if start == 0 else f"{file} has no such line after its line {start}"
        return block.problem(f"the excerpt has {part[0].strip()!r}, but {where}", fix, offset)
    line = part[count].strip()
    if best + count == len(program):
        return block.problem(f"the excerpt has {line!r}, but {file} ends before it", fix, offset + count)
    there = program[best + count].strip()
    what = f"the excerpt has {line!r}, but {file}:{best + count + 1} has {there!r}"
    if there == line:
        what = f"the indentation of {line!r} is not that of {file}:{best + count + 1}"
    return block.problem(what, fix, offset + count)
