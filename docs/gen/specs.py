"""Lets Griffe, which reads the source without running it, see that a Spec or a State is a dataclass."""

from __future__ import annotations

from typing import Any

import griffe

_MAKERS = {"vigmm.core.struct.spec", "vigmm.core.struct.state"}


class Specs(griffe.Extension):
    """Puts ``@dataclass`` beside our own decorators, before Griffe's extension for dataclasses looks."""

    def on_class_instance(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Called for each class when its head has been read."""
        if any(decorator.callable_path in _MAKERS for decorator in cls.decorators):
            maker = griffe.ExprName("dataclasses.dataclass")
            cls.decorators.append(griffe.Decorator(maker, lineno=None, endlineno=None))
