"""Verifies that ci/docs.sh notices each kind of problem: it plants one of each in a copy.

Usage: python3 ci/docs/self_test.py TOOLS     in the repository's root; exits with 1 if one is missed
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from check import check
from pages import Page, Problem, files_of, read_page
from planted import FAILING, GUIDE, RIGHT, WRONG, Plant
from run import run_page

KAFKA = "kafka.invalid:9092"


def write(root: Path, file: str, text: str) -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)


def copy_repository(root: Path) -> None:
    for name in files_of(Path(".")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, root / name)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)


def line_of(plant: Plant) -> int:
    """The page that is too long has its problem on the first line too many."""
    lines = plant.text.splitlines()
    return next((number for number, line in enumerate(lines, 1) if plant.at in line), 201)


def missed_problems(problems: list[Problem]) -> list[str]:
    missed = []
    for plant in WRONG:
        of_file = [problem for problem in problems if problem.file == plant.file]
        found = [problem for problem in of_file if problem.line == line_of(plant) and plant.what in problem.what]
        if len(of_file) != 1 or not found:
            reported = "".join(f"\n    {problem}" for problem in of_file) or "\n    nothing"
            missed.append(f"{plant.file}:{line_of(plant)}: {plant.what!r} is expected alone, reported is:{reported}")
    wrongly = (problem for problem in problems if problem.file in RIGHT)
    return missed + [f"{problem} (this is right)" for problem in wrongly]


def missed_failures(root: Path, folder: Path) -> list[str]:
    """What executing the planted pages misses."""
    missed = []
    for number, (expected, text) in enumerate(FAILING.items()):
        page = f"docs/guide/failing-{number}.md"
        write(root, page, GUIDE + text)
        failed = [str(outcome) for outcome in outcomes_of(root, folder, page) if "FAILED" in str(outcome)]
        if not any(expected in outcome for outcome in failed):
            missed.append(f"{page}: {expected!r} is expected, reported is: {failed}")
    outcomes = outcomes_of(root, folder, "docs/guide/right.md")
    expected_texts = ["executed", "the output is", "executed", "skipped: needs", "skipped: needs", "skipped: by hand"]
    expected_texts += ["executed", "executed"]
    if len(outcomes) != len(expected_texts) or not all(map(str.startswith, outcomes, expected_texts)):
        missed.append(f"docs/guide/right.md: {expected_texts} is expected, reported is: {outcomes}")
    return missed


def outcomes_of(root: Path, folder: Path, file: str) -> list[str]:
    page: Page = read_page(root, file)
    seconds = 1.0 if "sleep" in "\n".join(page.lines) else 60.0
    outcomes = run_page(root, folder, page, KAFKA, seconds)
    return [f"FAILED {outcome.text}" if outcome.failed else outcome.text for outcome in outcomes]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="octopus-docs-") as temporary:
        root, folder = Path(temporary) / "copy", Path(temporary) / "run"
        folder.mkdir()
        copy_repository(root)
        for file, text in RIGHT.items():
            write(root, file, text)
        for plant in WRONG:
            write(root, plant.file, plant.text)
        _, problems = check(Path(sys.argv[1]).resolve(), root)
        missed = missed_problems(problems) + missed_failures(root, folder)
    for line in missed:
        print(line, file=sys.stderr)
    if not missed:
        print(f"ci/docs.sh: each of {len(WRONG) + len(FAILING)} planted problems is noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
