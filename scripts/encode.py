"""Codes of own examples: python scripts/encode.py runs/a --input new.csv --out c.csv"""

from vaejax.cli.programs.encode import run

if __name__ == "__main__":
    run()
