"""What a person meets who gives what cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shifamind_core.errors import ShifamindError


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """The block raises a `ShifamindError` of one line that holds all these words."""
    with pytest.raises(ShifamindError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message and 10 < len(message) < 600, message
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"
