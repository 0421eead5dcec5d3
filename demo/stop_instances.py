# SPDX-License-Identifier: Apache-2.0
"""Stops the agents whose instance directories lie below a folder, and what they started: for the end of ./dev up.

    stop_instances.py DIRECTORY

A process belongs to an instance when its working directory is inside; agents get SIGTERM and clean up, what is left
after ten seconds is killed.
"""

import os
import signal
import sys
import time


def processes_below(directory):
    directory = os.path.realpath(directory)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                place = os.readlink(f"/proc/{entry}/cwd")
            except OSError:
                continue
            if place == directory or place.startswith(directory + "/"):
                yield int(entry)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    deadline = time.monotonic() + 10
    asked = set()
    while found := list(processes_below(sys.argv[1])):
        is_late = time.monotonic() > deadline
        for pid in found:
            if pid not in asked or is_late:
                asked.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
                except ProcessLookupError:
                    pass
        time.sleep(0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
