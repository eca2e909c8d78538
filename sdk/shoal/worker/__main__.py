"""`python -m shoal.worker`: a worker as the environment says."""

import sys

from .agent import main

sys.exit(main())
