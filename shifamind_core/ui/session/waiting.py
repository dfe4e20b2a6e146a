"""A page that waits says what for, how far it is, and for how long it has waited."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

from shifamind_core.progress import watched

T = TypeVar("T")
QUICK_SECONDS = 0.4  # below, a line that comes and goes would only flicker
LOOK_SECONDS = 0.25


def waited(what: str, work: Callable[[], T]) -> T:
    """The result of the work; where it takes long, a bar and a line in plain words tell of it.

    It is done in a thread of its own: the page's thread has to stay free to tell, and what is told from within a cached
    function would be kept with its result. Whoever leaves the page meanwhile finds the result there on coming back.
    """
    told, page = [("", 0.0)], get_script_run_ctx()

    def run() -> T:
        add_script_run_ctx(threading.current_thread(), page)
        with watched(lambda words, share: told.__setitem__(0, (words, share))):
            return work()

    began, pool = time.monotonic(), ThreadPoolExecutor(1)
    result = pool.submit(run)
    pool.shutdown(wait=False)
    if wait([result], QUICK_SECONDS).not_done:
        line = st.empty()
        while True:
            words, share = told[0]
            line.progress(share, text=progress_line(what, words, share, time.monotonic() - began))
            if wait([result], LOOK_SECONDS).done:
                break
        line.empty()
    return result.result()


def progress_line(what: str, words: str, share: float, seconds: float) -> str:
    """What is done, of it what just now, how much of it is, and since when.

    >>> progress_line("Looking for the cause", "whether labels differ", 0.613, 4.2)
    'Looking for the cause: whether labels differ · 61 % · 4 s'
    """
    return f"{what}{f': {words}' if words else ''} · {share:.0%} · {seconds:.0f} s".replace("%", " %")
