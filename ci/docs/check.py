"""Checks the pages: links, form, spelling, and the markers of blocks.

Usage: python3 ci/docs/check.py TOOLS     in the repository's root; exits with 1 and lists what is wrong

TOOLS is the folder into which ci/docs.sh installs the tools.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tools as external
from markers import check_page
from pages import Page, Problem, files_of, read_page


def check(tools: Path, root: Path) -> tuple[list[Page], list[Problem]]:
    """The pages of the repository, and the problems of these and of the sources' spelling."""
    files = files_of(root)
    pages = [read_page(root, name) for name in files if name.endswith(".md")]
    names = [page.file for page in pages]
    with ThreadPoolExecutor() as threads:
        running = [
            threads.submit(external.check_links, tools, root, names),
            threads.submit(external.check_form, tools, root, names),
            threads.submit(external.check_spelling, tools, root, files),
        ]
        problems = [problem for page in pages for problem in external.check_html_links(root, page)]
        for page in pages:
            if page.has_tested_blocks:
                problems += check_page(root, page)
        for result in running:
            problems += result.result()
    return pages, sorted(set(problems))


def main() -> int:
    try:
        pages, problems = check(Path(sys.argv[1]).resolve(), Path("."))
    except external.ToolFailure as failure:
        print(f"ci/docs.sh: {failure}", file=sys.stderr)
        return 1
    for problem in problems:
        print(problem, file=sys.stderr)
    blocks = sum(len(page.blocks) for page in pages if page.has_tested_blocks)
    print(f"ci/docs.sh: {len(pages)} pages, {blocks} blocks that tests execute, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
