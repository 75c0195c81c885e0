"""`python -m pvt`."""

from pvt.cli import main

raise SystemExit(main())
