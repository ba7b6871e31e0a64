"""``python -m experiments``: checks the interpreter before it imports anything that could fail on a wrong one."""

import sys


def main():
    if not (3, 8) <= sys.version_info < (3, 13):
        print("experiments: needs Python 3.8 to 3.12, as MXNet 1.9.1 runs on no other", file=sys.stderr)
        return 2
    try:
        from experiments import cli
    except ModuleNotFoundError as error:
        print("experiments: needs %s: pip install -e '.[experiments]'" % error.name, file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
