"""The Markdown pages, their fenced blocks, and the markers above these."""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
COMMENT = re.compile(r"^\s*<!--\s*(?P<text>.*?)\s*-->\s*$")
QUOTED_FENCE = re.compile(r"^\s*>[>\s]*(`{3,}|~{3,})")
# Comments that begin with one of these are markers; README.md of this folder explains each.
MARKERS = ("excerpt", "run", "second terminal", "output", "options", "by hand")
# What readers write for the address of their Kafka; tests write the address of theirs.
ADDRESS = "localhost:9092"


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong on a line, and what to do about it."""

    file: str
    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}; {self.fix}"


@dataclass(frozen=True)
class Marker:
    """The comment `<!-- kind: argument -->`."""

    kind: str
    argument: str


@dataclass(frozen=True)
class Block:
    """A fenced block. Its lines have no indentation of the fence."""

    file: str
    line: int
    language: str
    lines: tuple[str, ...]
    marker: Marker | None

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    def problem(self, what: str, fix: str, offset: int = 0) -> Problem:
        """A problem of the fence, or of the line that is `offset` below it."""
        return Problem(self.file, self.line + offset, what, fix)


@dataclass
class Page:
    """A page: its lines, its blocks, and the numbers of the lines that are part of no block."""

    file: str
    lines: list[str]
    blocks: list[Block] = field(default_factory=list)
    prose: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_guide(self) -> bool:
        return self.file.startswith("docs/guide/")

    @property
    def has_tested_blocks(self) -> bool:
        return self.file == "README.md" or self.is_guide


def files_of(root: Path) -> list[str]:
    """The files that are committed, or are new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    names = set(listed.split("\0")) - {""}
    return sorted(name for name in names if (root / name).is_file() and not (root / name).is_symlink())


def read_page(root: Path, file: str) -> Page:
    page = Page(file, (root / file).read_text().splitlines())
    number = 0
    while number < len(page.lines):
        line = page.lines[number]
        opening = FENCE.match(line)
        if opening is None:
            page.prose.append(number + 1)
            if page.has_tested_blocks and QUOTED_FENCE.match(line):
                what = "a block in a quotation can't be tested"
                page.problems.append(Problem(file, number + 1, what, "write the block without '>'"))
            number += 1
            continue
        end = end_of_block(page.lines, number, opening)
        if end == len(page.lines):
            what = "the block has no end"
            page.problems.append(Problem(file, number + 1, what, f"close it with {opening['fence']}"))
        indent = len(opening["indent"])
        content = (text[indent:] if not text[:indent].strip() else text for text in page.lines[number + 1 : end])
        language = (opening["info"].split() or [""])[0]
        marker = marker_of(page.lines[number - 1]) if number > 0 else None
        page.blocks.append(Block(file, number + 1, language, tuple(content), marker))
        number = end + 1
    return page


def end_of_block(lines: list[str], start: int, opening: re.Match[str]) -> int:
    """The index of the closing fence, or the number of lines if there is none."""
    for number in range(start + 1, len(lines)):
        text = lines[number].strip()
        if len(text) >= len(opening["fence"]) and not text.strip(opening["fence"][0]):
            return number
    return len(lines)


def marker_of(line: str) -> Marker | None:
    """The marker on a line; any other comment is a marker of unknown kind."""
    comment = COMMENT.match(line)
    if comment is None:
        return None
    kind, _, argument = comment["text"].partition(":")
    return Marker(kind.strip(), argument.strip())
