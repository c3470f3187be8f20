"""``python -m dncbench`` is the ``dncbench`` command."""

from dncbench.cli import main

main()
