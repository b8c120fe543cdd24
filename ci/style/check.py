"""Checks the form of the sources: length of files, width of comments and pages, and words.

Usage: python3 ci/style/check.py [FOLDER]     exits with 1 and lists what is wrong

ci/style.sh calls it; docs/glossary.md has the words that are not used.
"""

import re
import subprocess
import sys
from pathlib import Path

MAX_LINES = 450
MAX_COLUMNS = 100
SOURCES = {".rs", ".c", ".h", ".cpp", ".hpp", ".py", ".java", ".sh"}
GENERATED = (
    "include/octopus.h",
    "plugin-tests/loader/src/bindings.rs",
    "plugin-tests/python/diaspora_octopus/_abi.py",
)
# What others wrote, or programs: librdkafka's patches, recorded runs, data, inputs of fuzzers.
EXEMPT = ("src/kafka/patches/0", "docs/performance/", "docs/reports/", "plugin-tests/abi/", "plugin-tests/fuzz/corpus/")
# Pages that quote the words which are not used.
WORDS_EXEMPT = EXEMPT + ("docs/glossary.md", "ci/style/")
WORDS = re.compile(
    r"(?<![a-z])(answers?|told|tells|trouble|attend(?:ant|s)?|hurry|workshop|desk|left[-_ ]?overs?|spoil(?:ed|t)?"
    r"|mischief|whoever|strangers?)(?![a-z])"
)
COMMENT = re.compile(r"^\s*(//|#(?!!|\[|include|define|if|else|endif|pragma)|\*(?= |$)|/\*)")
HASH_COMMENTS = {".py", ".sh", ".toml"}
CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def tracked(folder):
    names = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return [name for name in names.split("\0") if name and not name.startswith(EXEMPT)]


def is_comment(suffix, line):
    mark = COMMENT.match(line)
    kinds = {"#": HASH_COMMENTS, "*": {".c", ".h", ".cpp", ".hpp", ".java"}}
    return bool(mark) and suffix in kinds.get(mark.group(1), SOURCES | HASH_COMMENTS)


def is_table(text):
    """A row of columns, a command that is indented, and a line that holds one word."""
    if re.match(r"\s*(//[/!]?|#|\*)\s{4,}\S", text):
        return True
    text = text.strip().lstrip("/!#*").strip()
    return text.startswith("|") or "  " in text or " " not in text.lstrip("-*> ")


def widths(name, lines):
    suffix = Path(name).suffix
    if suffix == ".md":
        in_code = False
        for number, line in enumerate(lines, 1):
            in_code ^= line.lstrip().startswith("```")
            if len(line) > MAX_COLUMNS and not in_code and not is_table(line):
                yield f"{name}:{number}: {len(line)} columns, at most {MAX_COLUMNS} in a page"
    elif suffix in SOURCES | HASH_COMMENTS:
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_COLUMNS and is_comment(suffix, line) and not is_table(line):
                yield f"{name}:{number}: {len(line)} columns, at most {MAX_COLUMNS} in a comment"


def words(name, lines, allowed):
    for number, line in enumerate(lines, 1):
        found = WORDS.search(CAPITAL.sub(" ", line).lower().replace("_", " "))
        if found and (name, line.strip()) not in allowed:
            yield f"{name}:{number}: {found.group(1)!r} is not used, docs/glossary.md has the word: {line.strip()}"


def problems(folder):
    allowed = {
        tuple(line.split("\t", 1))
        for line in (folder / "ci/style/allowed-words.tsv").read_text().splitlines()
        if not line.startswith("#")
    }
    for name in tracked(folder):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        if name not in GENERATED:
            if path.suffix in SOURCES and len(lines) > MAX_LINES:
                yield f"{name}: {len(lines)} lines, at most {MAX_LINES}: split it by subject"
            yield from widths(name, lines)
        if not name.startswith(WORDS_EXEMPT) and not name.endswith(".lock"):
            yield from words(name, lines, allowed)


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
    print("\n".join(found[:200]))
    print(f"{len(found)} problems of style")
    sys.exit(bool(found))
