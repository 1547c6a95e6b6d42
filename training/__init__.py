"""Training of the embedded models; not installed, run from a checkout on a machine with a GPU."""

from pathlib import Path

PROMPTS = Path(__file__).parent.parent / "nodes" / "prompts" / "compact"
