"""`python -m vaejax`: the same as the command `vaejax`."""

from vaejax.cli.main import main

if __name__ == "__main__":
    main()
