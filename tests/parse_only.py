"""Runs a script up to where its command line has been read: `python tests/parse_only.py SCRIPT ARGUMENTS`.

A wrong flag, value or setting ends as it does in a real run. Scripts with a configuration print it and stop.
"""

import argparse
import importlib.util
import os
import runpy
import sys

parse = argparse.ArgumentParser.parse_args


def parse_and_stop(parser, args=None, namespace=None):
    values = parse(parser, args, namespace)
    if hasattr(values, "print_config"):
        values.print_config = True
    elif parser.prog != "mimicmotion":  # that one only takes the command's name
        sys.exit(0)
    return values


if __name__ == "__main__":
    argparse.ArgumentParser.parse_args = parse_and_stop
    del sys.argv[0]
    sys.path[0] = "" if sys.argv[0] == "-m" else os.path.dirname(sys.argv[0])
    if sys.argv[0] != "-m":
        runpy.run_path(sys.argv[0], run_name="__main__")
    elif sys.argv[1] == "mimicmotion":
        del sys.argv[0]
        runpy.run_module("mimicmotion", run_name="__main__", alter_sys=False)
    elif importlib.util.find_spec(sys.argv[1]) is None:
        sys.exit(f"no module named {sys.argv[1]}")
