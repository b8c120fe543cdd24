"""Executes the `run` blocks of pages, compares their `output`, and verifies `options`.

Usage: python3 ci/docs/run.py [PAGE...] [BOOTSTRAP-SERVERS]     in the repository's root

Without a page it takes README.md and those of docs/guide. OCTOPUS_TEST_KAFKA can give the bootstrap
servers, too. Exits with 1 if a block fails.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markers import Conditions, check_page, conditions_of
from options import CALL, OptionsTest, target_folder
from pages import ADDRESS, Block, Page, files_of, read_page

PAGE_SECONDS = 600.0
SECONDS_TO_END = 5.0
SHOWN_LINES = 60
# A server of the page must print READY within this time.
READY_SECONDS = 120
PORT = re.compile(r"(?<=--port )\d+")
EXECUTED = ("run", "second terminal")
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Outcome:
    """What became of a block."""

    block: Block
    text: str
    failed: bool = False
    executed: bool = False

    def __str__(self) -> str:
        return f"{self.block.file}:{self.block.line}: {'FAILED: ' if self.failed else ''}{self.text}"


class Shell:
    """The bash in which the run blocks of a page are executed in order.

    Each block is a file that the shell reads, so variables and the working directory stay, and
    errors name the page and the line. The output of each block goes to a file of its own."""

    def __init__(self, root: Path, folder: Path, page: str, addresses: dict[str, str]) -> None:
        self.root = root
        self.folder = Path(tempfile.mkdtemp(prefix="page-", dir=folder))
        self.page = page
        self.addresses = addresses
        write_kafka_tools(root, self.folder / "kafka-tools")

    def write_script(self, block: Block) -> Path:
        """A file with the block at the lines that it has on the page, for bash's messages."""
        script = self.folder / str(block.line) / self.page
        script.parent.mkdir(parents=True)
        text = with_addresses(block.text, self.addresses)
        for name in (conditions_of(block) or Conditions()).programs:
            if name.isupper():
                text = re.sub(rf"\b{name}=\S+", f"{name}={shlex.quote(os.environ[name])}", text)
        if is_server(block):
            text = PORT.sub(lambda port: self.addresses[f"localhost:{port[0]}"].rpartition(":")[2], text)
        # Pages call cargo's folder as it is by default: `target`, `$PWD/target`.
        target = target_folder(self.root)
        if target != self.root / "target":
            text = re.sub(r"(\$\w+/|(?<![\w/]))target/", f"{target}/", text)
        script.write_text("\n" * block.line + text)
        return script

    def output_of(self, block: Block) -> str:
        file = self.folder / f"{block.line}.output"
        text = file.read_text(errors="replace") if file.exists() else ""
        return ESCAPES.sub("", text).replace(f"{self.folder}/{block.line}/", "")

    def command(self, block: Block, script: str, output: str) -> str:
        """A second terminal has none of the variables of the first, and its input stays open."""
        conditions = conditions_of(block) or Conditions()
        if is_server(block):
            terminal = f"tail -f /dev/null | (cd {shlex.quote(str(self.root))} && exec bash -euo pipefail {script})"
            is_ready = f"grep -qs '^READY' {output}"
            wait = f"for _ in {{1..{READY_SECONDS * 10}}}; do ! {is_ready} && kill -0 $! 2>/dev/null || break; sleep 0.1; done"
            return f"{terminal} >{output} 2>&1 &\n{wait}; {is_ready}"
        if conditions.topic:
            server = shlex.quote(self.addresses.get(ADDRESS, ADDRESS))
            create = f"kafka-topics.sh --bootstrap-server {server} --create --if-not-exists --topic {conditions.topic}"
            return f"{create} >{output} 2>&1\nsource {script} >>{output} 2>&1"
        return f"source {script} >{output} 2>&1"

    def run(self, blocks: list[Block], seconds: float) -> tuple[dict[int, float], int | None]:
        """The start of each block that was reached, and the status; None after a timeout."""
        progress = self.folder / "progress"
        progress.touch()
        lines = []
        for block in blocks:
            script = self.write_script(block)
            output = shlex.quote(str(self.folder / f"{block.line}.output"))
            lines.append(f'echo "{block.line} $EPOCHREALTIME" >>{shlex.quote(str(progress))}')
            lines.append(self.command(block, shlex.quote(str(script)), output))
        lines.append(f'echo "0 $EPOCHREALTIME" >>{shlex.quote(str(progress))}')
        main = self.folder / "main"
        main.write_text("\n".join(lines) + "\n")
        path = f"{os.environ['PATH']}:{self.folder / 'kafka-tools'}"
        environment = {**os.environ, "CARGO_TERM_COLOR": "never", "LC_NUMERIC": "C", "PATH": path}
        # A page must say itself how programs find the library.
        environment.pop("OCTOPUS_LIBRARY", None)
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", str(main)],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        status: int | None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_group(process)
        starts = (line.split() for line in progress.read_text().splitlines())
        return {int(line): float(start) for line, start in starts}, status


def is_there(name: str) -> bool:
    """Whether a program is installed, or an environment variable set: its name is in capitals."""
    return bool(os.environ.get(name)) if name.isupper() else shutil.which(name) is not None


def is_server(block: Block) -> bool:
    return block.marker is not None and block.marker.kind == "second terminal"


def with_addresses(text: str, addresses: dict[str, str]) -> str:
    for written, used in addresses.items():
        text = text.replace(written, used)
    return text


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def write_kafka_tools(root: Path, folder: Path) -> None:
    """The scripts of Kafka's distribution that pages use. They start the same classes; the jars that
    Maven fetches for the tests have no scripts."""
    folder.mkdir()
    for name, tool in (("kafka-configs.sh", "kafka.admin.ConfigCommand"), ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand")):
        jars = f'"$({shlex.quote(str(root / "ci/kafka.sh"))} --jars-only)/*"'
        script = folder / name
        script.write_text(f'#!/usr/bin/env bash\nset -euo pipefail\nexec java -cp {jars} {tool} "$@"\n')
        script.chmod(0o755)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the shell and what its blocks left in the background: with SIGKILL only if SIGTERM does
    not suffice, since a Kafka removes its files when it ends."""
    deadline = time.monotonic() + SECONDS_TO_END
    try:
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run_blocks(shell: Shell, blocks: list[Block], seconds: float) -> list[Outcome]:
    """Executes run blocks in one shell."""
    if not blocks:
        return []
    starts, status = shell.run(blocks, seconds)
    lines = [block.line for block in blocks] + [0]
    outcomes = []
    for block, following in zip(blocks, lines[1:], strict=True):
        if following in starts:
            text = f"executed in {starts[following] - starts[block.line]:.1f} s"
            outcomes.append(Outcome(block, text, executed=True))
        elif block.line in starts:
            text = f"ended with status {status}; correct the commands"
            if status is None:
                text = f"the page ran for more than {seconds:.0f} s, at last in this block; make it end sooner"
            elif status == 0:
                text = "the block ended the page's shell; leave out 'exit'"
            output = shell.output_of(block).splitlines()[-SHOWN_LINES:]
            indented = "".join(f"\n    {line}" for line in output)
            outcomes.append(Outcome(block, text + (indented or "\n    (no output)"), failed=True))
        else:
            outcomes.append(Outcome(block, "not reached, since a block before it failed", failed=True))
    return outcomes


def run_page(root: Path, folder: Path, page: Page, bootstrap: str | None, seconds: float) -> Iterator[Outcome]:
    """The outcomes of all run and output blocks, and why others are not executed here."""
    runnable = []
    skipped = {}
    addresses = {ADDRESS: bootstrap} if bootstrap else {}
    for block in page.blocks:
        if block.marker is not None and block.marker.kind in EXECUTED:
            missing = [name for name in (conditions_of(block) or Conditions()).programs if not is_there(name)]
            if missing:
                skipped[block.line] = f"needs {', '.join(missing)}, which is not installed"
            else:
                runnable.append(block)
                ports = PORT.findall(block.text) if is_server(block) else []
                addresses.update((f"localhost:{port}", f"localhost:{free_port()}") for port in ports)
    shell = Shell(root, folder, page.file, addresses)
    if ADDRESS not in addresses and (asking := next((block for block in runnable if ADDRESS in block.text), None)):
        yield Outcome(asking, f"{ADDRESS} needs a Kafka: {CALL}", failed=True)
        return
    outcomes = {outcome.block.line: outcome for outcome in run_blocks(shell, runnable, seconds)}
    before = None
    for block in page.blocks:
        kind = block.marker.kind if block.marker is not None else ""
        if kind in EXECUTED:
            before = block
            yield outcomes.get(block.line) or Outcome(block, f"skipped: {skipped[block.line]}")
        elif kind == "by hand" and block.marker is not None:
            yield Outcome(block, f"skipped: by hand: {block.marker.argument}")
        elif kind == "output" and before is not None and before.line in skipped:
            yield Outcome(block, f"skipped: {skipped[before.line]}")
        elif kind == "output" and before is not None and not outcomes[before.line].failed:
            yield compare_output(block, shell.output_of(before), addresses)


def compare_output(block: Block, output: str, addresses: dict[str, str]) -> Outcome:
    """The lines of the page must be in the output in their order; others may be between them."""
    given = [line.rstrip() for line in output.splitlines()]
    start = 0
    for line in block.lines:
        expected = with_addresses(line.rstrip(), addresses)
        if expected in ("", "…"):
            continue
        pattern = re.compile(".*".join(map(re.escape, expected.split("…"))))
        found = next((at for at in range(start, len(given)) if pattern.fullmatch(given[at])), None)
        if found is None:
            place = "" if start == 0 else f" after {given[start - 1]!r}"
            shown = "".join(f"\n    {text}" for text in given[start:][:SHOWN_LINES]) or "\n    (nothing)"
            text = f"the output has no line {expected!r}{place}; correct the page. The output there:{shown}"
            return Outcome(block, text, failed=True)
        start = found + 1
    return Outcome(block, "the output is that of the page", executed=True)


def verify_options(test: OptionsTest, page: Page) -> Iterator[Outcome]:
    for block in options_blocks(page):
        assert block.marker is not None
        wrong = test.verify(block)
        if wrong is None:
            text = f"the library creates a {block.marker.argument} with these options"
            yield Outcome(block, text, executed=True)
        else:
            yield Outcome(block, f"{wrong}; correct the options", failed=True)


def options_blocks(page: Page) -> list[Block]:
    return [block for block in page.blocks if block.marker is not None and block.marker.kind == "options"]


def test_page(root: Path, folder: Path, page: Page, bootstrap: str | None, test: OptionsTest | None) -> list[Outcome]:
    """Prints and returns the outcomes of a page."""
    outcomes = []
    for outcome in run_page(root, folder, page, bootstrap, PAGE_SECONDS):
        print(outcome, flush=True)
        outcomes.append(outcome)
    for outcome in verify_options(test, page) if test is not None else ():
        print(outcome, flush=True)
        outcomes.append(outcome)
    return outcomes


def main(arguments: list[str]) -> int:
    root = Path(".").resolve()
    bootstrap = os.environ.get("OCTOPUS_TEST_KAFKA") or None
    if arguments and re.search(r":\d+$", arguments[-1]):
        bootstrap = arguments.pop()
    files = files_of(root)
    pages = [read_page(root, name) for name in arguments or files if name in files and name.endswith(".md")]
    if len(pages) < len(arguments):
        print(f"ci/docs.sh: not all of these are pages: {' '.join(arguments)}; write docs/guide/….md", file=sys.stderr)
        return 2
    pages = [page for page in pages if page.has_tested_blocks]
    outcomes = []
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="octopus-docs-") as temporary:
        folder = Path(temporary)
        try:
            test = OptionsTest(root, folder, bootstrap) if any(map(options_blocks, pages)) else None
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"ci/docs.sh: {error}", file=sys.stderr)
            return 1
        for page in pages:
            problems = check_page(root, page)
            if problems:
                print(*problems, f"{page.file}: FAILED: not executed; correct the lines above", sep="\n", flush=True)
                wrong += 1
            else:
                outcomes += test_page(root, folder, page, bootstrap, test)
    failed = sum(outcome.failed for outcome in outcomes)
    executed = sum(outcome.executed for outcome in outcomes)
    skipped = len(outcomes) - failed - executed
    print(f"ci/docs.sh: {executed} blocks are as they should be, {failed} failed, {skipped} skipped")
    if wrong:
        print(f"ci/docs.sh: {wrong} pages were not executed, since their markers are wrong")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
