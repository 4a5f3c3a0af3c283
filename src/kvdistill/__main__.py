"""``python -m kvdistill``: the same as the ``kvdistill`` command."""

from kvdistill.cli import main

raise SystemExit(main())
