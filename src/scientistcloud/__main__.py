"""``python -m scientistcloud``: the same as the command ``scientistcloud``."""

from scientistcloud.cli import main

if __name__ == "__main__":
    main()
