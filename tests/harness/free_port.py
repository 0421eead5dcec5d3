# SPDX-License-Identifier: Apache-2.0
"""Ports for the servers of tests: below those that Linux gives to outgoing connections, and random, so that tests
side by side do not meet."""

import random
import socket

PORTS = range(12000, 32000)


def free_port_run(count):
    """The first of `count` free ports in a row."""
    for _ in range(1000):
        first = random.choice(PORTS[: -count or None])
        probes = []
        try:
            for port in range(first, first + count):
                probe = socket.socket()
                probes.append(probe)
                probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise RuntimeError("no free ports")


def free_port():
    return free_port_run(1)
