"""`python -m quant_action`."""

import sys

from quant_action.cli import main

sys.exit(main())
