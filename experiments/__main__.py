"""``python -m experiments``: checks the interpreter first, as later imports could fail on a wrong one."""

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
    except KeyboardInterrupt:   # Ctrl-C during the import
        return 130
    return cli.main()


def open_streams():
    """Open closed standard streams on the null device, and let none fail at a character outside of its encoding.

    Else the next file to be opened would get a closed stream's number, and MXNet and child processes would write to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)   # gets the lowest free number: this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8"))   # noqa: SIM115  (open until the process ends)
        getattr(sys, name).reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
