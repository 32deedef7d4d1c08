"""jetlift: foundation models from their weights to a measured result on a Jetson.

Importing this package costs nothing: numpy and cv2 come with `jetlift.runtime`, every heavier
library only with the function that needs it, and the version is looked up when it is asked for.
"""

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("jetlift")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
