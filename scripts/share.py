"""A run as a folder for others: python scripts/share.py runs/a --out model"""

from vaejax.cli.programs.share import run

if __name__ == "__main__":
    run()
