"""Untrusted files in a limited child: what it may not do, what it may not say, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from shifamind_core.artifacts import limited
from shifamind_core.artifacts.limited import Answer, Limits, read_limited
from shifamind_core.artifacts.regular_file import open_regular, read_regular, stays_within
from tests.support.refused import refused

ROOT = Path(__file__).resolve().parents[2]


def read(
    reader: str, content: bytes | Path = b"x", limits: Limits = limited.BY_SIZE, **arguments: object
) -> Answer:
    return read_limited(f"tests.support.limited_readers:{reader}", content, "a.x", arguments, limits)


def children() -> set[int]:
    server = limited.SERVER._process
    return {child.pid for child in psutil.Process(server.pid).children()} if server else set()


@pytest.fixture(autouse=True)
def nothing_stays_behind() -> Iterator[None]:
    read("whole")
    handles = psutil.Process().num_fds()
    yield
    assert psutil.Process().num_fds() == handles
    deadline = time.monotonic() + 5
    while children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not children()


def test_values_arrays_and_texts_come_back_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.x").write_bytes(b"content")
    for source in (b"content", tmp_path / "a.x"):
        answer = read("whole", source, n=3)
        assert answer.value == {"n": 3} and answer.texts == ["é", ""]
        assert answer.arrays["bytes"].tobytes() == b"content"
        assert answer.arrays["half"].dtype == np.float16 and answer.arrays["half"].shape == (2, 1)


def test_a_file_costs_milliseconds_and_no_start_of_an_interpreter() -> None:
    began = time.monotonic()
    for _ in range(20):
        read("whole")
    assert time.monotonic() - began < 20 * 0.2  # an interpreter with NumPy takes longer


def test_several_threads_read_at_once() -> None:
    found: list[bytes] = []

    def one(content: bytes) -> None:
        found.extend([read("whole", content).arrays["bytes"].tobytes()] * (content != b""))

    threads = [threading.Thread(target=one, args=(str(i).encode(),)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(str(i).encode() for i in range(12))


def test_a_reader_that_never_ends_is_given_up() -> None:
    began = time.monotonic()
    with refused("a.x was given up", "2 s allowed"):
        read("hang", limits=Limits(cpu_seconds=2))
    with refused("a.x was given up", "1 s allowed"):
        read("sleep", limits=Limits(cpu_seconds=1))  # no CPU seconds: the clock on the wall
    assert time.monotonic() - began < 30


def test_who_waits_is_told_so_and_may_end_it() -> None:
    """Cancel is an exception in the thread that waits; the child is gone then."""

    class Cancelled(BaseException):
        pass

    def cancel(what: str, seconds: int, allowed: int) -> None:
        assert (what, seconds, allowed) == ("Reading a.x", 1, 30) and len(children()) == 1
        raise Cancelled

    began = time.monotonic()
    with pytest.raises(Cancelled), limited.while_reading(cancel):
        read("hang")
    assert time.monotonic() - began < 5


def test_memory_beyond_the_limit_is_refused() -> None:
    assert read("take_memory", mebibytes=100).value == 100 << 20
    with refused("a.x was refused", "896 MiB allowed"):
        read("take_memory", mebibytes=1024)
    with refused("a.x was refused", "50 MiB allowed"):
        read("take_memory", limits=Limits(memory_bytes=50 << 20), mebibytes=100)


def test_a_child_writes_no_file_and_opens_no_socket(tmp_path: Path) -> None:
    with refused("did not expect", "OSError"):
        read("write_a_file", path=str(tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    with refused("did not expect", "OSError"):
        read("open_a_socket")


def test_what_a_reader_refuses_is_said_and_what_a_library_says_is_not() -> None:
    with refused("a.x was refused: it is not wanted."):
        read("refuse")
    with refused("a.x is wrong in row 3."):
        read("say")
    for reader in ("fail", "panic"):
        with pytest.raises(limited.ShifamindError) as caught:
            read(reader, b"the text of a note")
        assert "note" not in str(caught.value) and "did not expect" in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_reader_that_dies_is_one_line(number: int) -> None:
    with refused("a.x"):
        read("end_by", number=int(number))


def framed(header: object) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content


@pytest.mark.parametrize(
    "content",
    [
        b"short",
        framed(b"no JSON"),
        framed(b"[" * 5000),
        framed([]),
        framed({"value": 1}),
        framed({"value": 1, "arrays": [], "text_bytes": []}),
        framed({"value": 1, "arrays": {"a": ["|O", [1]]}, "text_bytes": []}) + b"12345678",
        framed({"value": 1, "arrays": {"a": ["<f4", [-1]]}, "text_bytes": []}),
        framed({"value": 1, "arrays": {"a": ["<f4", [1 << 40, 1 << 40]]}, "text_bytes": []}),
        framed({"value": 1, "arrays": {"a": ["<f4", [2]]}, "text_bytes": []}) + b"12",
        framed({"value": 1, "arrays": {"a": "<f4"}, "text_bytes": []}),
        framed({"value": 1, "arrays": {}, "text_bytes": [-1]}),
        framed({"value": 1, "arrays": {}, "text_bytes": [1 << 50]}),
        framed({"value": 1, "arrays": {}, "text_bytes": [2]}) + b"\xff\xff",
        framed({"error": "Value Error\n", "message": "the text of a note"}),
        (1 << 62).to_bytes(8, "little") + b"x" * 100,
    ],
)
def test_nothing_that_a_child_says_is_trusted(content: bytes) -> None:
    with refused("a.x"):
        read("answer", content)


def test_arrays_of_objects_or_records_do_not_come_back() -> None:
    with refused("another form"):
        read("objects")


def test_it_starts_again_where_it_was_killed() -> None:
    assert limited.SERVER._process is not None
    limited.SERVER._process.kill()
    limited.SERVER._process.wait()
    assert read("whole", b"again").arrays["bytes"].tobytes() == b"again"


def test_a_reader_can_be_loaded_before_it_is_needed_and_what_goes_wrong_waits_for_who_needs_it() -> None:
    limited.SERVER.close()
    limited.SERVER.prepare("tests.support.limited_readers")
    server = limited.SERVER._process
    limited.SERVER.prepare("tests.support.no_such_module")
    assert server is not None and limited.SERVER._process is server and server.poll() is None
    assert read("whole", b"ready").arrays["bytes"].tobytes() == b"ready"
    assert limited.SERVER._process is server


def test_nothing_outlives_the_process_that_wanted_to_read(tmp_path: Path) -> None:
    """Killed while a file is read, it takes the server and the child with it."""
    script = (
        "from shifamind_core.artifacts import limited\n"
        "import threading, time\n"
        "hang = lambda: limited.read_limited('tests.support.limited_readers:sleep', b'x', 'a.x', {})\n"
        "threading.Thread(target=hang, daemon=True).start()\n"
        "while limited.SERVER._process is None: time.sleep(0.01)\n"
        "time.sleep(1)\n"
        "print('reading', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"reading\n"
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) == 2
        process.kill()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive


# Regular files


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        for name in ("fifo", "zero", "socket"):
            with refused(name):
                open_regular(tmp_path / name)
    with refused("folder"):
        open_regular(tmp_path)
    with refused("No such file"):
        open_regular(tmp_path / "missing")
    with refused("cannot be read"):
        open_regular(tmp_path / ("x" * 300))
    with refused("cannot be read"):
        open_regular(Path("a\0b"))


def test_an_empty_or_too_large_file_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with refused("empty"):
        open_regular(tmp_path / "empty")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3 << 30)
    with refused("3,221,225,472 bytes", "at most 1,000"):
        read_regular(tmp_path / "sparse", 1000)
    for source in (b"x" * 11, tmp_path / "sparse"):
        with refused("a.x", "at most 10"):
            read("whole", source, Limits(largest_bytes=10))
    with refused("empty"):
        read("whole", b"")


def test_a_link_may_lead_within_the_folder_and_not_out_of_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "run", tmp_path / "secret"
    inside.mkdir()
    outside.write_text("x")
    (inside / "a").write_text("x")
    (inside / "to_a").symlink_to("a")
    (inside / "out").symlink_to(outside)
    (inside / "nowhere").symlink_to("missing")
    found = {
        name: stays_within(inside / name, inside) for name in ("a", "to_a", "out", "nowhere", "../secret")
    }
    assert found == {"a": True, "to_a": True, "out": False, "nowhere": False, "../secret": False}
