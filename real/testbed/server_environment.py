"""Where the Triton server is: the environment that `make triton` builds, checked before anything is started."""

from __future__ import annotations

import functools
import json
import os
import platform
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...envs.errors import CarbonPilotError, InputError

VARIABLE = "CARBONPILOT_TRITON"
_FOLDER = ".triton"
_MEND = f"Run `make triton` in the checkout, or set {VARIABLE} to the folder of an environment made by it."
_STUB = "triton_python_backend_stub"
# Asked of the environment's own Python: version, packages, where the shared libpython is.
_ASK = """
import json, sys, sysconfig
get = sysconfig.get_config_var
print(json.dumps(["%d.%d" % sys.version_info[:2], sysconfig.get_path("purelib"),
                  get("LIBDIR") or "", get("LDLIBRARY") or "", get("INSTSONAME") or ""]))
"""


@dataclass(frozen=True)
class TritonEnvironment:
    """A virtual environment with a Triton server in it.

    Attributes:
        binary: the server.
        backends: folder of its backends.
        variables: environment variables that it and its Python backend need.
    """

    binary: Path
    backends: Path
    variables: dict[str, str]


def environment_folder() -> Path:
    """Where the environment is looked for: ``CARBONPILOT_TRITON``, else ``.triton`` in the checkout or here."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    checkout = Path(__file__).resolve().parents[2] / _FOLDER
    return checkout if checkout.exists() else Path.cwd() / _FOLDER


def unavailable() -> str | None:
    """Why no Triton server can be started here, with the mend; None where one can."""
    try:
        find_environment()
    except CarbonPilotError as error:
        return str(error)
    return None


def find_environment(folder: Path | None = None) -> TritonEnvironment:
    """Find the Triton server and make it ready to use.

    Args:
        folder: of the virtual environment; None: `environment_folder`.

    Raises:
        InputError: it is missing or incomplete; names the mend.
    """
    return _find((folder or environment_folder()).absolute())


@functools.cache
def _find(folder: Path) -> TritonEnvironment:
    python = folder / "bin" / "python"
    if not python.exists():
        raise InputError(f"There is no Triton server: {folder} is not a virtual environment. {_MEND}")
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"{python} does not run: {done.stderr.strip()[-300:]}. {_MEND}")
    version, packages, libraries, library, soname = json.loads(done.stdout)
    server = Path(packages, "pytriton", "tritonserver")
    if not (server / "bin" / "tritonserver").exists():
        raise InputError(
            f"{folder} holds no Triton server (nvidia-pytriton exists for x86-64 and aarch64 Linux, "
            f"this is {platform.machine()} {platform.system()}). {_MEND}"
        )
    _install_stub(server, version)
    return TritonEnvironment(
        binary=server / "bin" / "tritonserver",
        backends=server / "backends",
        variables={
            # The backend's embedded Python ignores PYTHONPATH; it takes for its home the first python3 on the path.
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": _library_folder(Path(libraries), library, soname, version),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )


def _install_stub(server: Path, version: str) -> None:
    """The Python backend starts the stub that lies beside it, which must be that of the environment's Python."""
    there, here = server / "python_backend_stubs" / version / _STUB, server / "backends" / "python" / _STUB
    if not there.exists():
        raise InputError(
            f"The Triton server has no backend for Python {version}. Run `make triton TRITON_PYTHON=python3.12`."
        )
    if here.exists() and here.stat().st_size == there.stat().st_size:
        return
    fresh = here.with_name(f".{_STUB}-{secrets.token_hex(4)}")
    try:
        shutil.copy(there, fresh)
        os.replace(fresh, here)
    except OSError as error:
        raise InputError(f"Cannot write {here}: {error.strerror}. {_MEND}") from error


def _library_folder(folder: Path, library: str, soname: str, version: str) -> str:
    """Folder of the shared libpython, empty where the system's linker finds it by itself."""
    name = soname if ".so" in soname else f"libpython{version}.so.1.0"
    if ".so" in library and (folder / name).exists():
        return str(folder)
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    if name in listed:
        return ""
    raise InputError(
        f"The Triton server's Python backend needs {name}, which is missing. Install libpython{version} "
        "(apt), or use a Python built with --enable-shared: make triton TRITON_PYTHON=..."
    )
