"""What the tests share: a Kafka, unique topics, and scripts in processes of their own.

The Kafka is the one of OCTOPUS_TEST_KAFKA (host:port), or one that is embedded in this process.
OCTOPUS_LIBRARY is the path of the library.
"""

import contextlib
import functools
import itertools
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from unittest import mock

import diaspora_octopus as octopus

PYTHON = Path(__file__).resolve().parent.parent
ROOT = PYTHON.parent.parent
TIMEOUT = 60
"""The longest wait of a test for something that happens soon, in seconds."""
IS_REAL_KAFKA = bool(os.environ.get("OCTOPUS_TEST_KAFKA"))

counter = itertools.count()


@functools.cache
def embedded_driver():
    return octopus.Driver({"embedded": {}, "disable_info_topic": True})


def servers():
    """The bootstrap servers of the Kafka."""
    return os.environ.get("OCTOPUS_TEST_KAFKA") or embedded_driver().describe()["embedded_bootstrap_servers"]


def config(**options):
    # Other drivers see no info topics in the embedded Kafka, and would warn.
    return {"kafka": {"bootstrap.servers": servers()}, "disable_info_topic": not IS_REAL_KAFKA, **options}


@functools.cache
def driver():
    """Only the driver of an embedded Kafka can create topics there."""
    return octopus.Driver(config()) if IS_REAL_KAFKA else embedded_driver()


def new_name(prefix="python"):
    return f"{prefix}-{os.getpid()}-{time.time_ns()}-{next(counter)}"


def new_topic(num_partitions=1, **options):
    """Creates a topic of its own for a test, and opens it."""
    name = new_name()
    # Without an info topic other drivers open it at once: the embedded Kafka does not respond to
    # the question for an info topic's settings, and opening waits for 5 s.
    options = {"replication_factor": 1, "disable_info_topic": not IS_REAL_KAFKA, **options}
    driver().create_topic(name, num_partitions=num_partitions, **options)
    return driver().open_topic(name)


def new_consumer(topic, name=None, **options):
    """A consumer that does not wait long for the members of its group that are gone."""
    kafka = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500, **options.pop("kafka", {})}
    return topic.consumer(name or new_name("group"), kafka=kafka, **options)


def reader(topic, **options):
    """A consumer of all partitions that joins no group."""
    return topic.consumer(new_name("reader"), targets=range(topic.partition_count), **options)


def count_events(topic_name, expected):
    """Waits until a topic has as many events, and returns how many it has a little later."""
    topic = driver().open_topic(topic_name)
    with reader(topic) as consumer:
        count = 0
        while count < expected:
            events = consumer.pull_many(1000, TIMEOUT)
            if not events:
                return count
            count += len(events)
        return count + len(consumer.pull_many(1000, 0.5))


@contextlib.contextmanager
def interrupted_after(functions, name):
    """Raises Ctrl+C when this function of the library has returned a result."""
    function = getattr(functions, name)

    def interrupted(*arguments):
        status = function(*arguments)
        if status == octopus.Status.TIMED_OUT:
            return status
        raise KeyboardInterrupt

    with mock.patch.object(functions, name, interrupted):
        yield


def start_script(source, *arguments, options=("-X", "dev", "-W", "error"), **popen):
    """Starts a Python script of this text. It has the package as `octopus`, a driver's configuration
    as `config`, and the arguments as `arguments`.

    The script is a file, as workers of multiprocessing need it.
    """
    head = f"import sys\nimport diaspora_octopus as octopus\nconfig = {config()!r}\narguments = sys.argv[1:]\n"
    file = tempfile.NamedTemporaryFile("w", suffix=".py", delete=False)
    with file:
        file.write(head + textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": str(PYTHON)}
    command = [sys.executable, *options, file.name, *map(str, arguments)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen
    )
    process.script = file.name
    return process


def finish_script(process, timeout=TIMEOUT):
    """Waits for the end of a script. Returns its status, its output and its error output."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"the script did not end in {timeout} s; it printed {output!r} and {errors!r}") from None
    finally:
        os.unlink(process.script)
    return process.returncode, output, errors


def run_script(source, *arguments, options=("-X", "dev", "-W", "error"), timeout=TIMEOUT):
    return finish_script(start_script(source, *arguments, options=options), timeout)
