"""Finds the library as a program of a user does, and prints where it is."""

import sys

import diaspora_octopus as octopus

try:
    print(octopus.Library().path)
except OSError as error:
    print(error)
    sys.exit(1)
