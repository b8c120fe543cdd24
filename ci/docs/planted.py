"""The pages that ci/docs.sh --self-test adds to a copy of the repository: right ones, and some with
one problem each."""

from dataclasses import dataclass

PROGRAM = "plugin-tests/examples/planted.c"
PROGRAM_TEXT = """\
static int add(int left, int right)
{
    return left + right;
}

int main(void)
{
    return add(1, -1);
}
"""
GUIDE = "# Title\n\nAt the end of this page you can test.\n\n"
OTHER = "# Title\n\n## One\n\n### Same\n\n## Two\n\n### Same\n\n"
FENCE = "```"
# Not in one piece, since the spelling of this file is checked, too.
MISSPELLED = "recie" + "ve"


@dataclass(frozen=True)
class Plant:
    """A page or source with one problem. The checker must report `what` on the first line that
    contains `at`, and nothing else."""

    file: str
    text: str
    at: str
    what: str


def block(marker: str, language: str, *lines: str) -> str:
    return "\n".join([f"<!-- {marker} -->", FENCE + language, *lines, FENCE, ""])


RIGHT = {
    PROGRAM: PROGRAM_TEXT,
    "docs/planted/other.md": OTHER
    + "[folder](../planted) [second](#same-1) [line](../../src/lib.rs#L3) [root](/README.md) [label]\n"
    + "\n[label]: ../guide\n",
    "docs/planted/picture.svg": "<svg/>\n",
    "docs/guide/right.md": GUIDE
    + "![picture](../planted/picture.svg) [second](../planted/other.md#same-1) `<img src=\"nowhere\">`\n\n"
    + "<picture><source srcset=\"../planted/picture.svg\"><img src=\"../planted/picture.svg\" alt=\"x\"></picture>\n\n"
    + block(f"excerpt: {PROGRAM}", "c", "static int add(int left, int right)", "…", "return add(1, -1);")
    + "\n"
    + block("run", "sh", "folder=$PWD", "cd ci", "echo 'The Kafka is localhost:9092'", "echo done >&2")
    + "\n"
    + block("output", "text", "The Kafka is localhost:9092", "d…e")
    + "\n1. In a list:\n\n   "
    + block("run", "sh", "[[ $PWD == $folder/ci ]]").replace("\n", "\n   ").rstrip()
    + "\n\n"
    + block("run: needs octopus-no-such-program", "sh", "false")
    + "\n"
    + block("output", "text", "nothing")
    + "\n"
    + block("options: driver", "json", '{"kafka": {"bootstrap.servers": "localhost:9092"}}')
    + "\n"
    + block("by hand: needs an account", "sh", "false")
    + "\n"
    + block("second terminal", "sh", "port=$(echo --port 9192)", "echo READY $port", "[[ -z ${folder-} ]]", "cat")
    + "\n"
    + block("run", "sh", "[[ localhost:9192 != *:9""192 ]]")
    + "\n```text\nA picture.\n```\n",
}


def excerpt(*lines: str) -> str:
    return GUIDE + block(f"excerpt: {PROGRAM}", "c", *lines)


# Problems that ci/docs.sh reports.
WRONG = [
    Plant("docs/planted/file.md", OTHER + "[link](nowhere.md)\n", "nowhere", "Cannot find file"),
    Plant("docs/planted/folder.md", OTHER + "[link](../nowhere/)\n", "nowhere", "Cannot find file"),
    Plant("docs/planted/anchor.md", OTHER + "[link](#nowhere)\n", "nowhere", "Cannot find heading"),
    Plant("docs/planted/duplicate.md", OTHER + "[link](other.md#same-2)\n", "same-2", "Cannot find heading"),
    Plant("docs/planted/reference.md", OTHER + "[link]\n\n[link]: nowhere.md\n", "]:", "Cannot find file"),
    Plant("docs/planted/label.md", OTHER + "[link][nowhere]\n", "nowhere", "MD052"),
    Plant("docs/planted/image.md", OTHER + "![picture](nowhere.svg)\n", "nowhere", "Cannot find file"),
    Plant("docs/planted/html.md", OTHER + '<img src="nowhere.svg" alt="x">\n', "nowhere", "no file"),
    Plant("docs/planted/html-anchor.md", OTHER + '<img alt="x" src="other.md#same">\n', "img", "is not checked"),
    Plant("docs/planted/language.md", OTHER + f"{FENCE}\ntext\n{FENCE}\n", FENCE, "MD040"),
    Plant("docs/planted/blanks.md", OTHER + "A line. \n", "A line", "MD009"),
    Plant("docs/planted/level.md", "# Title\n\n### Third\n", "Third", "MD001"),
    Plant("docs/planted/spelling.md", OTHER + f"{MISSPELLED}\n", MISSPELLED, "is misspelled"),
    Plant("docs/planted/british.md", OTHER + "col" + "our\n", "col", "is misspelled"),
    Plant("src/planted.rs", f"// {MISSPELLED}\n", MISSPELLED, "is misspelled"),
    Plant("docs/guide/no-marker.md", f"{GUIDE}{FENCE}sh\nls\n{FENCE}\n", FENCE, "has no marker"),
    Plant("docs/guide/unknown.md", GUIDE + block("runs", "sh", "ls"), "runs", "unknown marker"),
    Plant("docs/guide/run-language.md", GUIDE + block("run", "c", "ls"), "```c", "the language of a block"),
    Plant("docs/guide/run-needs.md", GUIDE + block("run: with kcat", "sh", "ls"), "kcat", "follows 'run'"),
    Plant("docs/guide/server.md", GUIDE + block("second terminal: with topic x", "sh", "ls"), "topic x", "follows 'second"),
    Plant("docs/guide/output.md", GUIDE + block("output", "text", "x"), "output", "is not executed"),
    Plant("docs/guide/options-kind.md", GUIDE + block("options: broker", "json", "{}"), "broker", "no options of"),
    Plant("docs/guide/options-json.md", GUIDE + block("options: topic", "json", "{", '"x"', "}"), "}", "are not JSON"),
    Plant("docs/guide/by-hand.md", GUIDE + block("by hand", "sh", "ls"), "by hand", "no reason"),
    Plant("docs/guide/far.md", GUIDE + "<!-- run -->\n\n```text\nx\n```\n", "run", "no block follows"),
    Plant("docs/guide/quotation.md", f"{GUIDE}> {FENCE}sh\n> ls\n", "> ```sh", "in a quotation"),
    Plant("docs/guide/open.md", GUIDE + "<!-- run -->\n```sh\nls\n", "```", "has no end"),
    Plant("docs/guide/no-program.md", GUIDE + block("excerpt: plugin-tests/hosts/no.c", "c", "x"), "```", "no program"),
    Plant("docs/guide/untested.md", GUIDE + block("excerpt: src/lib.rs", "rust", "x"), "```rust", "no test runs"),
    Plant("docs/guide/language.md", GUIDE + block(f"excerpt: {PROGRAM}", "rust", "x"), "```rust", "not written in"),
    Plant("docs/guide/differs.md", excerpt("int main(void)", "{", "    return 0;"), "return 0", "planted.c:8 has"),
    Plant("docs/guide/absent.md", excerpt("…", "int other(void)"), "other", "no such line"),
    Plant("docs/guide/order.md", excerpt("int main(void)", "…", "return left + right;"), "left", "after its line"),
    Plant("docs/guide/indented.md", excerpt("int main(void)", "{", "  return add(1, -1);"), "add", "the indentation"),
    Plant("docs/guide/long.md", GUIDE + "A line.\n" * 197, "no such line", "has 201 lines"),
    Plant("docs/guide/no-paragraph.md", "# Title\n\n- A list.\n", "A list", "a title and a paragraph"),
    Plant("docs/guide/first-words.md", "# Title\n\nThis page is long.\n", "This page", "At the end of this page"),
]

# Run blocks that fail when they are executed, by the text of their outcome.
FAILING = {
    "ended with status 3": block("run", "sh", "(exit 3)", "true"),
    "the server has failed": block("second terminal", "sh", "echo the server has failed"),
    "ended with status 1": block("run", "sh", "false | true"),
    "line 7: unset_variable": block("run", "sh", "echo $unset_variable"),
    "ended the page's shell": block("run", "sh", "exit 0"),
    "ran for more than": block("run", "sh", "sleep 60"),
    "not reached": block("run", "sh", "false") + "\n" + block("run", "sh", "true"),
    "has no line 'two' after 'three'": block("run", "sh", "printf '%s\\n' one two three")
    + "\n"
    + block("output", "text", "three", "two"),
}
