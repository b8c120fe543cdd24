"""Finds the library as a program of a user does, and prints which file it is."""

import sys

import diaspora_octopus as octopus

try:
    octopus.Library()
    # The path of the library is only a name, if the system's loader has found it.
    with open("/proc/self/maps") as maps:
        print(next(line[line.index("/") :].rstrip() for line in maps if "liboctopus" in line))
except OSError as error:
    print(error)
    sys.exit(1)
