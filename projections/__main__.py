"""`python -m projections` is `eventstore worker`: where the log and the views are, the environment says."""

import sys

from eventstore.cli import main

sys.exit(main(["worker", *sys.argv[1:]]))
