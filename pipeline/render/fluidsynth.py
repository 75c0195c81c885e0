"""Typed bindings of the FluidSynth functions that rendering uses, to the library that pyfluidsynth finds.

pyfluidsynth itself binds neither SoundFont sharing between synthesizers nor float output. FluidSynth API 2.x:
https://www.fluidsynth.org/api/
"""

import ctypes
from collections import deque
from collections.abc import Callable
from ctypes import c_char_p, c_double, c_float, c_int, c_void_p
from functools import cache
from typing import Any, NamedTuple

from data_specs.errors import UserError

FAILED = -1
_LOG_LEVELS = range(5)  # panic, error, warning, information, debug
_KEPT_MESSAGES = 20

_LogCallback = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "new_fluid_settings": (c_void_p, []),
    "delete_fluid_settings": (None, [c_void_p]),
    "fluid_settings_setnum": (c_int, [c_void_p, c_char_p, c_double]),
    "fluid_settings_setint": (c_int, [c_void_p, c_char_p, c_int]),
    "new_fluid_synth": (c_void_p, [c_void_p]),
    "delete_fluid_synth": (None, [c_void_p]),
    "fluid_synth_sfload": (c_int, [c_void_p, c_char_p, c_int]),
    "fluid_synth_get_sfont_by_id": (c_void_p, [c_void_p, c_int]),
    "fluid_synth_add_sfont": (c_int, [c_void_p, c_void_p]),
    "fluid_synth_remove_sfont": (c_int, [c_void_p, c_void_p]),
    "fluid_sfont_get_id": (c_int, [c_void_p]),
    "fluid_synth_program_select": (c_int, [c_void_p, c_int, c_int, c_int, c_int]),
    "fluid_synth_noteon": (c_int, [c_void_p, c_int, c_int, c_int]),
    "fluid_synth_noteoff": (c_int, [c_void_p, c_int, c_int]),
    "fluid_synth_all_sounds_off": (c_int, [c_void_p, c_int]),
    "fluid_synth_pitch_bend": (c_int, [c_void_p, c_int, c_int]),
    "fluid_synth_pitch_wheel_sens": (c_int, [c_void_p, c_int, c_int]),
    "fluid_synth_set_gen": (c_int, [c_void_p, c_int, c_int, c_float]),
    "fluid_synth_write_float": (c_int, [c_void_p, c_int, c_void_p, c_int, c_int, c_void_p, c_int, c_int]),
    "fluid_version_str": (c_char_p, []),
    "fluid_set_log_function": (c_void_p, [c_int, _LogCallback, c_void_p]),
}
_INSTALL = "install it with `apt-get install libfluidsynth3` (Debian, Ubuntu) or `brew install fluid-synth` (macOS)"


class FluidSynth(NamedTuple):
    """The bound library: its functions by C name, and its 20 most recent log messages, oldest first."""

    call: dict[str, Callable[..., Any]]
    messages: deque[str]
    callback: Any  # kept here because the library calls it as long as the process lives


@cache
def load_fluidsynth() -> FluidSynth:
    """Load libfluidsynth, once per process, and send its log to `messages` of the result instead of stderr.

    Raises:
        UserError: pyfluidsynth, libfluidsynth or a function of its API is missing.
    """
    return bind(_library())


def library_version() -> str:
    """Return the version of libfluidsynth, for example 2.3.1; load it first if needed.

    Raises:
        UserError: as by `load_fluidsynth`.
    """
    version: bytes = load_fluidsynth().call["fluid_version_str"]()
    return version.decode()


def bind(library: ctypes.CDLL) -> FluidSynth:
    """Return the functions of `library` with their argument and result types, and send its log to `messages`.

    Raises:
        UserError: a function is missing, since the library is older than FluidSynth 2.
    """
    call: dict[str, Callable[..., Any]] = {}
    for name, (result, arguments) in _PROTOTYPES.items():
        try:
            call[name] = ctypes.CFUNCTYPE(result, *arguments)((name, library))
        except AttributeError:
            raise UserError(f"libfluidsynth must be 2.0 or later, got one without {name}; {_INSTALL}") from None
    messages: deque[str] = deque(maxlen=_KEPT_MESSAGES)

    def log(level: int, message: bytes | None, data: object) -> None:
        messages.append((message or b"").decode(errors="replace"))

    callback = _LogCallback(log)
    for level in _LOG_LEVELS:
        call["fluid_set_log_function"](level, callback, None)
    return FluidSynth(call, messages, callback)


def _library() -> ctypes.CDLL:
    try:
        import fluidsynth
    except ModuleNotFoundError as error:
        if error.name != "fluidsynth":
            raise
        raise UserError("pyfluidsynth is missing; run `pip install pyfluidsynth`") from None
    except (ImportError, OSError) as error:
        raise UserError(f"libfluidsynth cannot be loaded ({error}); {_INSTALL}") from error
    library = getattr(fluidsynth, "_fl", None)
    if not isinstance(library, ctypes.CDLL):
        raise UserError(
            "the package `fluidsynth` is not pyfluidsynth; "
            "run `pip uninstall fluidsynth` and then `pip install --force-reinstall pyfluidsynth`"
        )
    return library
