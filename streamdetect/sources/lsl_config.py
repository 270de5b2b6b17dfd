"""The configuration of Lab Streaming Layer: a session of one's own, and a quiet log."""

from __future__ import annotations

import os
import random
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CONFIG = """\
[ports]
IPv6 = disable
BasePort = {base_port}
PortRange = {n_ports}
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session_id}
[log]
level = -3
"""


_PORTS = range(17_000, 32_000)  # above LSL's own, below those that connections go out from
_PORTS_PER_OUTLET = 2
_N_PORTS = 64


@contextmanager
def own_lsl_session(n_outlets: int = 0) -> Iterator[None]:
    """Point LSL, here and in programs started from here, at a session on this machine alone.

    Parameters
    ----------
    n_outlets : int
        How many streams there will be, where they are many: one that gets no port of the session is found by nobody.

    Notes
    -----
    The ports are drawn at random: other sessions on this machine may have taken all of LSL's own.
    LSL reads its configuration once in a process, when it is first used: enter before that. A configuration that the
    user chose through ``LSLAPICFG`` is left alone.
    """
    if "LSLAPICFG" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lsl_api.cfg"
        n_ports = max(_N_PORTS, _PORTS_PER_OUTLET * n_outlets)
        base_port = random.choice(_PORTS[:-n_ports])
        text = _CONFIG.format(session_id=uuid.uuid4().hex, base_port=base_port, n_ports=n_ports)
        path.write_text(text, encoding="utf-8")
        os.environ["LSLAPICFG"] = str(path)
        try:
            yield
        finally:
            del os.environ["LSLAPICFG"]


def quiet_liblsl() -> None:
    """Keep liblsl's log off standard error, unless the user's own LSL configuration sets a level.

    For command lines: has to be called before any other use of LSL, and leaves all other settings as they are.
    """
    import pylsl

    text = _read_config()
    if text is None or re.search(r"^\s*level\s*=", text, re.MULTILINE):
        return
    quiet = "level = -3"  # fatal errors only
    if re.search(r"^\s*\[log\]", text, re.MULTILINE):
        text = re.sub(r"^\s*\[log\].*$", f"[log]\n{quiet}", text, count=1, flags=re.MULTILINE)
    else:
        text = f"{text}\n[log]\n{quiet}\n"
    with suppress(NotImplementedError):  # a liblsl of one's own, older than 1.17.7
        pylsl.set_config_content(text)


def _read_config() -> str | None:
    """Return the LSL configuration that liblsl would load, empty where there is none; None where it cannot be read."""
    named = os.environ.get("LSLAPICFG")
    places = [Path("lsl_api.cfg"), Path.home() / "lsl_api" / "lsl_api.cfg", Path("/etc/lsl_api/lsl_api.cfg")]
    for place in [Path(named), *places] if named else places:  # in liblsl's order
        try:
            return place.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            if named and place == Path(named):
                return None  # let liblsl complain
        except OSError:
            return None
    return ""
