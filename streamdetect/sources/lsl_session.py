"""An LSL session of one's own: streams that nobody else on the network sees, and that see nobody else's."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIG = """\
[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session_id}
[log]
level = -3
"""


@contextmanager
def own_lsl_session() -> Iterator[None]:
    """Point LSL, here and in programs started from here, at a session on this machine alone.

    Notes
    -----
    LSL reads its configuration once in a process, when it is first used: enter before that. A configuration that the
    user chose through ``LSLAPICFG`` is left alone.
    """
    if "LSLAPICFG" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lsl_api.cfg"
        path.write_text(_CONFIG.format(session_id=uuid.uuid4().hex), encoding="utf-8")
        os.environ["LSLAPICFG"] = str(path)
        try:
            yield
        finally:
            del os.environ["LSLAPICFG"]
