"""``python -m parity``: see ``parity/cli/app.py``."""
import sys

from parity.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
