"""Training speed on this machine: python scripts/benchmark.py --batch-size 128"""

from vaejax.cli.programs.benchmark import run

if __name__ == "__main__":
    run()
