"""One module a command: ``add(commands)`` makes its parser, the rest parses, calls and prints.

To add a command, write its module and name it in :data:`MODULES`.
"""

MODULES = (
    "caption",
    "serve",
    "table",
    "report",
    "score",
    "rescore",
    "retime",
    "merge",
    "fleet",
    "gate",
    "baseline",
    "calibrate",
    "tune",
    "certify",
    "sweep",
    "data",
    "profile",
    "quantize",
    "plugins",
    "settings",
)
"""In the order of ``edgecloud --help``."""
