"""``python -m vigmm`` is the command ``vigmm``."""

from vigmm.cli import main

main()
