"""``python -m gentool``: the same as the ``gentool`` command."""

from gentool.cli import main

if __name__ == "__main__":
    main()
