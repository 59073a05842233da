"""Trains a preset: python scripts/train.py vae --latents 64 --workdir runs/a"""

from vaejax.cli.programs.train import run

if __name__ == "__main__":
    run()
