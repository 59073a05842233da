"""Compares runs, also example by example: python scripts/compare.py runs/a runs/b"""

from vaejax.cli.programs.compare import run

if __name__ == "__main__":
    run()
