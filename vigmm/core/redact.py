"""Addresses without what is secret in them, for whatever may be shown to others."""

from __future__ import annotations

import re

__all__ = ["redacted"]

# A password may have slashes, and is then told from a port by its letters.
_KEYS = re.compile(r"(?<=://)(?:[^/\s@\"']+|[^/\s@\"':]+:(?!\d+/)[^\s@\"']+)@")


def redacted(text: str) -> str:
    """A text whose addresses have asterisks where names and passwords stood.

    Example:
        >>> redacted("uri: postgresql://me:word@host/runs, to be seen by a@b.org")
        'uri: postgresql://***@host/runs, to be seen by a@b.org'
        >>> redacted("s3://me:wo/rd@bucket/x.csv"), redacted("http://host:5000/a@b")
        ('s3://***@bucket/x.csv', 'http://host:5000/a@b')
    """
    return _KEYS.sub("***@", text)
