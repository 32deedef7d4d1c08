"""jetlift: foundation models from their weights to a measured result on a Jetson.

    import jetlift

    with jetlift.load("dinov2") as embed:
        print(embed("photo.jpg")["embedding"])

Importing this package costs nothing: numpy and cv2 come with `jetlift.runtime`, every heavier
library only with the function that needs it, and the version is looked up when it is asked for.
"""

TYPE_CHECKING = False  # type checkers take it for True, and `typing` need not be imported
if TYPE_CHECKING:
    from jetlift.runtime.load import LoadedTask, load

__all__ = ["LoadedTask", "__version__", "load"]

__version__: str


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("jetlift")
    if name in ("LoadedTask", "load"):
        import jetlift.runtime.load as home

        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
