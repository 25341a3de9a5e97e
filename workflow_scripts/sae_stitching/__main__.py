"""``python -m sae_stitching``, the same as the command ``sae-stitching``."""

from sae_stitching.command.main import main

if __name__ == "__main__":
    main()
