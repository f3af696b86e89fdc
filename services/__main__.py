"""`python -m services NAME`: one service in the foreground."""

import runpy
import sys

from libs.config import SERVICES

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SERVICES:
        sys.exit(f"usage: python -m services {{{','.join(SERVICES)}}}")
    runpy.run_module(f"services.{sys.argv[1]}", run_name="__main__")
