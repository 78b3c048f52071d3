"""`python -m search`."""

import sys

from search.cli.app import main

sys.exit(main())
