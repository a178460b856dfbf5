"""Runs in a process that a test starts."""

import sys

if len(sys.argv) > 1:
    print("with words")
else:
    print("without")
