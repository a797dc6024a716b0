"""`python -m gateway` is `spillgate`."""

import sys

from gateway.cli import main

sys.exit(main())
