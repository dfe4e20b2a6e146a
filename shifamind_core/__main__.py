"""`python -m shifamind_core`."""

import sys

from shifamind_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
