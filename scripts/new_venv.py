"""Makes a virtual environment with pip: python scripts/new_venv.py FOLDER

Owns the refusal of a Python that is too old, and machines whose Python cannot give a new environment its pip
(Debian without python3-venv). Installs nothing else.
"""

import subprocess
import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - this script is what tells the user of an older Python
    sys.exit(
        "sundog needs Python 3.11 or newer, and " + sys.executable + " is " + sys.version.split()[0] + ".\n"
        "  Name another one, for example: make test PYTHON=python3.12"
    )


def main(folder: str) -> None:
    """Create `folder`, replacing what is there; a failing command ends the process with its exit status."""
    can_bring_pip = (
        subprocess.run([sys.executable, "-c", "import ensurepip"], stderr=subprocess.DEVNULL).returncode == 0
    )
    subprocess.run(
        [sys.executable, "-m", "venv", "--clear", *([] if can_bring_pip else ["--without-pip"]), folder], check=True
    )
    if not can_bring_pip:
        python = str(Path(folder) / "bin" / "python")
        subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "pip"], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
