"""A run as files that JAX alone runs: python scripts/export.py runs/a --out model"""

from vaejax.cli.programs.export import run

if __name__ == "__main__":
    run()
