"""Checks the markers of the fenced blocks in README.md and in the guide, and the form of a page of
the guide."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from excerpts import check_excerpt
from pages import MARKERS, Block, Page, Problem, marker_of

ADVICE = f"write one of these above it, as ci/docs/README.md explains: <!-- {', '.join(MARKERS)} -->"
OPTION_KINDS = ("driver", "topic", "producer", "consumer")
LANGUAGES = {"run": "sh", "second terminal": "sh", "output": "text", "options": "json"}
GUIDE_INDEX = "docs/guide/README.md"
MAX_GUIDE_LINES = 200
FIRST_WORDS = "At the end of this page"
# A list, a table, a quotation, HTML, an image, a heading.
NO_PARAGRAPH = re.compile(r"^(\s*([-*+>|<#]|\d+[.)]\s)|\s*!\[|\s{4,})")


def check_page(root: Path, page: Page) -> list[Problem]:
    """The problems of a page whose blocks are tested."""
    problems = list(page.problems)
    for index, block in enumerate(page.blocks):
        problems += check_marker(root, page, index, block)
    problems += markers_without_block(page)
    if page.is_guide:
        problems += check_guide_form(page)
    return problems


def check_marker(root: Path, page: Page, index: int, block: Block) -> list[Problem]:
    marker = block.marker
    if marker is None or not marker.kind:
        if block.language == "text":
            return []
        what = f"the {block.language} block has no marker, which says how it is tested".replace("  ", " ")
        return [block.problem(what, ADVICE)]
    if marker.kind not in MARKERS:
        what = f"the comment above the block has the unknown marker {marker.kind!r}"
        return [block.problem(what, ADVICE, -1)]
    language = LANGUAGES.get(marker.kind, block.language)
    if block.language != language:
        what = f"the language of a block with the marker {marker.kind!r} is {block.language!r}"
        return [block.problem(what, f"write ```{language}")]
    if marker.kind == "excerpt":
        return check_excerpt(root, block)
    if marker.kind in ("run", "second terminal") and conditions_of(block) is None:
        fix = f"write <!-- {marker.kind}: needs PROGRAM -->, or <!-- run: with topic NAME -->"
        return [block.problem(f"{marker.argument!r} follows {marker.kind!r}", fix, -1)]
    if marker.kind == "output":
        if marker.argument:
            return [block.problem(f"{marker.argument!r} follows 'output'", "write <!-- output -->", -1)]
        before = page.blocks[index - 1].marker if index > 0 else None
        if before is None or before.kind != "run":
            what = "the block before this output is not executed"
            return [block.problem(what, "move it behind its run block, or leave the marker out", -1)]
    if marker.kind == "options":
        return check_options(block)
    if marker.kind == "by hand" and not marker.argument:
        return [block.problem("the marker gives no reason", "write <!-- by hand: REASON -->", -1)]
    return []


@dataclass(frozen=True)
class Conditions:
    """What must exist before a block is executed."""

    programs: tuple[str, ...] = ()
    topic: str = ""


def conditions_of(block: Block) -> Conditions | None:
    """What a block that is executed needs; None if its marker can't be read."""
    assert block.marker is not None
    argument, kind = block.marker.argument, block.marker.kind
    if not argument:
        return Conditions()
    if needs := re.fullmatch(r"needs ([\w.+-]+(, ?[\w.+-]+)*)", argument):
        return Conditions(programs=tuple(re.split(", ?", needs[1])))
    if kind == "run" and (topic := re.fullmatch(r"with topic ([\w.-]+)", argument)):
        return Conditions(topic=topic[1])
    return None


def check_options(block: Block) -> list[Problem]:
    assert block.marker is not None
    kind = block.marker.argument
    if kind not in OPTION_KINDS:
        return [block.problem(f"there are no options of a {kind!r}", f"write one of {', '.join(OPTION_KINDS)}", -1)]
    try:
        value = json.loads(block.text)
    except json.JSONDecodeError as error:
        what = f"the options are not JSON: {error.msg} in column {error.colno}"
        return [block.problem(what, "correct the JSON", error.lineno)]
    if not isinstance(value, dict):
        return [block.problem("the options are no JSON object", "write an object", 1)]
    return []


def markers_without_block(page: Page) -> list[Problem]:
    """A marker with a blank line below it would silently have no effect."""
    above = {block.line - 1 for block in page.blocks}
    problems = []
    for number in page.prose:
        marker = marker_of(page.lines[number - 1])
        if marker is not None and marker.kind in MARKERS and number not in above:
            what = f"no block follows the marker {marker.kind!r}"
            problems.append(Problem(page.file, number, what, "move it to the line directly above a block"))
    return problems


def check_guide_form(page: Page) -> list[Problem]:
    """The length of a page, and its first paragraph. The index has no such paragraph."""
    problems = []
    if len(page.lines) > MAX_GUIDE_LINES:
        what = f"the page has {len(page.lines)} lines, at most {MAX_GUIDE_LINES} in the guide"
        problems.append(Problem(page.file, MAX_GUIDE_LINES + 1, what, "shorten it, or move a subject to another page"))
    if page.file == GUIDE_INDEX:
        return problems
    title = next((number for number in page.prose if page.lines[number - 1].startswith("# ")), 0)
    first = next((number for number in range(title + 1, len(page.lines) + 1) if page.lines[number - 1].strip()), title)
    line = page.lines[first - 1] if page.lines else ""
    fix = f"write below the title what readers can do after it: '{FIRST_WORDS} you can …'"
    if title == 0 or first == title or first not in page.prose or NO_PARAGRAPH.match(line):
        problems.append(Problem(page.file, max(first, 1), "the page does not begin with a title and a paragraph", fix))
    elif not line.startswith(FIRST_WORDS):
        what = f"the first paragraph does not begin with '{FIRST_WORDS}'"
        problems.append(Problem(page.file, first, what, fix))
    return problems
