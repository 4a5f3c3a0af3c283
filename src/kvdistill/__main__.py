"""``python -m kvdistill``: the same as ``kvdistill``."""

from kvdistill.cli import main

raise SystemExit(main())
