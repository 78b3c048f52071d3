"""`python -m fmnist_hpo.cli`."""

import sys

from fmnist_hpo.cli.app import main

sys.exit(main())
