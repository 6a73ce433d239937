"""The ``gentool`` command, and ``python -m gentool``."""

from gentool.core.signals import leave_when_asked


def main() -> None:
    """Run the command line and exit; a signal is answered while it is still being imported."""
    leave_when_asked()
    from gentool.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
