"""Trains the three embedded models: `python -m training.train --out DIR` on a machine with a GPU, about ten minutes.

Writes DIR/nano, DIR/mini and DIR/judge, each a Hugging Face folder. All cores but three write documents while the
models are trained, each in a process of its own, on one GPU or, where there are more, side by side on two.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from training.documents import ModelName
from training.fit import RECIPES
from training.shards import write_shards
from training.tokenizer import save_tokenizer, train_tokenizer


def start(
    name: ModelName, shards: Path, out: Path, *, gpu: int, seconds: float, device: str
) -> subprocess.Popen[bytes]:
    """Start the process that trains one model."""
    command = [sys.executable, "-m", "training.fit", name, str(shards), str(out), "--device", device]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, "--seconds", str(seconds)], env=environment)


def gpu_count() -> int:
    """Count the GPUs without starting CUDA in this process."""
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return max(1, len(listed.stdout.strip().splitlines()))


def train(out: Path, *, seconds: dict[ModelName, float], device: str = "cuda") -> None:
    """Train the tokenizer and the three models, and write their folders."""
    began = time.monotonic()
    tokenizer = train_tokenizer()
    for name in RECIPES:
        save_tokenizer(tokenizer, out / name)
    print(f"tokenizer after {time.monotonic() - began:.1f} s", flush=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        shards = Path(folder)
        last = gpu_count() - 1
        gpus: dict[ModelName, int] = {"nano": min(1, last), "mini": min(1, last), "judge": 0}
        trainers = {
            name: start(name, shards, out / name, gpu=gpus[name], seconds=seconds[name], device=device)
            for name in RECIPES
        }
        counts: dict[ModelName, int] = {name: recipe.shards for name, recipe in RECIPES.items()}
        write_shards(counts, out / "nano" / "tokenizer.json", shards, max(2, (os.cpu_count() or 4) - 3))
        print(f"documents after {time.monotonic() - began:.1f} s", flush=True)
        failed = [name for name, trainer in trainers.items() if trainer.wait() != 0]
    if failed:
        raise SystemExit(f"Training failed for {', '.join(failed)}; see the messages above.")
    print(f"trained after {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1e9, help="end a model's training after this time at most")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    train(arguments.out, seconds=dict.fromkeys(RECIPES, arguments.seconds), device=arguments.device)


if __name__ == "__main__":
    main()
