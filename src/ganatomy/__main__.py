"""Entry point of ``python -m ganatomy``, which is the command ``ganatomy``."""

import sys

from ganatomy.cli import main

if __name__ == "__main__":
    sys.exit(main())
