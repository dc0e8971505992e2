"""`python -m trueline` is the command line."""

import sys

from trueline.cli.main import main

sys.exit(main())
