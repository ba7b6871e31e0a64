"""``python -m experiments``: checks the interpreter before it imports anything that could fail on a wrong one."""

import os
import sys


def main():
    if not (3, 8) <= sys.version_info < (3, 13):
        print("experiments: needs Python 3.8 to 3.12, as MXNet 1.9.1 runs on no other", file=sys.stderr)
        return 2
    open_streams()
    try:
        from experiments.commands import cli
    except ModuleNotFoundError as error:
        print("experiments: needs %s: pip install -e '.[experiments]'" % error.name, file=sys.stderr)
        return 2
    except KeyboardInterrupt:   # while it loads
        return 130
    return cli.main()


def open_streams():
    """Standard streams that are closed lead nowhere, and none stops at a character that its encoding has not.

    Else the next file that is opened would be taken for one of them, by MXNet and by child processes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)   # gets the lowest number that is free: this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8"))   # noqa: SIM115  (as long as the process)
        getattr(sys, name).reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
