"""What may stand in a URL that others can read."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"https?://[^/\s@]+@|://[^/\s@:]*:[^/\s@]+@")


def has_password(text: str) -> bool:
    """Tell whether a URL in the text has a password, or a user, which may be a token."""
    return _PASSWORD.search(text) is not None
