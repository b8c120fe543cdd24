"""Runs the programs that check links, form and spelling, and collects what they report."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from pages import Page, Problem

CHECKED_WORDS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "NOTICE", "build.rs", "Cargo.toml")
CHECKED_FOLDERS = ("docs/", "src/", "include/", "plugin-tests/", "ci/", ".github/")
LINT_LINE = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+)(?::\d+)? (?P<what>MD\d+.*)$")
SPELLING_LINE = re.compile(r"^(?:\./)?(?P<file>[^:]+):(?P<line>\d+): (?P<word>.+?) ==> (?P<words>.+)$")
# Links in HTML, which the Markdown tools don't look at: a picture for a light and a dark page.
HTML_LINK = re.compile(r"""<[a-z][^>]*?\s(?:src|srcset|href)=["'](?P<target>[^"']*)["']""")
CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")


class ToolFailure(Exception):
    """A tool did not run, which says nothing about the pages."""


def run(command: list[str], root: Path, expected: set[int]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode not in expected:
        output = (done.stderr or done.stdout).strip()
        raise ToolFailure(f"{command[0]} ended with status {done.returncode}: {output}")
    return done


def check_links(tools: Path, root: Path, pages: list[str]) -> list[Problem]:
    """Files and anchors of Markdown links, images and reference definitions, by remark."""
    modules = tools / "node_modules"
    options = ["--no-stdout", "--no-config", "--no-ignore", "--no-color", "--rc-path", str(tools / "links.json")]
    reporter = ["--report", str(modules / "vfile-reporter-json/index.js")]
    done = run([str(modules / ".bin/remark"), *options, *reporter, *pages], root, {0})
    try:
        reports = json.loads(done.stderr)
    except json.JSONDecodeError as error:
        raise ToolFailure(f"remark reports no JSON: {done.stderr.strip()}") from error
    fix = "correct the link, or the heading or file that it means"
    problems = []
    for report in (report for report in reports if report["path"] in pages):
        missing = {message["place"]["start"]["offset"] for message in report["messages"] if is_of_file(message)}
        for message in report["messages"]:
            # A file that is missing has no headings either; one message is enough.
            if is_of_file(message) or message["place"]["start"]["offset"] not in missing:
                problems.append(Problem(report["path"], message["line"], message["reason"], fix))
    return problems


def is_of_file(message: dict[str, Any]) -> bool:
    return bool(message["ruleId"] == "missing-file")


def check_html_links(root: Path, page: Page) -> list[Problem]:
    """Files that HTML on a page refers to."""
    problems = []
    for number in page.prose:
        text = CODE_SPAN.sub("", page.lines[number - 1])
        for target in (entry.strip() for link in HTML_LINK.finditer(text) for entry in link["target"].split(",")):
            name = target.split(" ")[0]
            if re.match(r"[a-z]+:", name):
                continue
            if "#" in name:
                what = f"the anchor of the HTML link {name!r} is not checked"
                problems.append(Problem(page.file, number, what, "write a Markdown link"))
            elif not ((root / page.file).parent / name).exists():
                what = f"there is no file {name!r}"
                problems.append(Problem(page.file, number, what, "correct the HTML link"))
    return problems


def check_form(tools: Path, root: Path, pages: list[str]) -> list[Problem]:
    """Headings, lists, blanks and blocks, by markdownlint."""
    rules = "ci/docs/pages.markdownlint-cli2.jsonc"
    command = [str(tools / "node_modules/.bin/markdownlint-cli2"), "--config", rules]
    done = run([*command, *(f":{page}" for page in pages)], root, {0, 1})
    found = [match for line in done.stderr.splitlines() if (match := LINT_LINE.match(line))]
    if done.returncode == 1 and not found:
        raise ToolFailure(f"markdownlint-cli2 failed: {done.stderr.strip()}")
    fix = f"change the page; {rules} has the rules"
    return [Problem(match["file"], int(match["line"]), match["what"], fix) for match in found]


def check_spelling(tools: Path, root: Path, files: list[str]) -> list[Problem]:
    """Misspelled words in pages and sources, by codespell."""
    checked = [name for name in files if name in CHECKED_WORDS or name.startswith(CHECKED_FOLDERS)]
    command = [str(tools / "python/bin/codespell"), "--config", "ci/docs/codespell.cfg"]
    done = run([*command, *checked], root, {0, 65})
    found = [match for line in done.stdout.splitlines() if (match := SPELLING_LINE.match(line))]
    if done.returncode != 0 and not found:
        raise ToolFailure(f"codespell failed: {(done.stderr or done.stdout).strip()}")
    fix = "if the word is right, add it to ci/docs/spelling.txt in lower case"
    return [
        Problem(match["file"], int(match["line"]), f"{match['word']!r} is misspelled, write {match['words']!r}", fix)
        for match in found
    ]
