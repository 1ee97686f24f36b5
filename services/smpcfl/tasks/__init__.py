from pathlib import Path

BUNDLED = (
    Path(__file__).parent / "digits" / "app"
)  # the Flower app that is run unless another is given
