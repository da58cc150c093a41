"""Runs a command as the systemd unit would shut it in: ``python sandboxed.py NAMES COMMAND…``.

``NAMES`` are the system calls that may be made, with commas between; any other answers EPERM. Memory that was written
is never run, and no right is ever gained. Needs libseccomp and Linux 6.3.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
SCMP_ACT_ALLOW, SCMP_ACT_ERRNO = 0x7FFF0000, 0x00050000 | errno.EPERM


def shut_in(names: list[str]) -> None:
    """Takes from this process, and those it starts, all but these system calls."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)):
        if libc.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3):
            raise OSError(ctypes.get_errno(), f"prctl({option})")
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(SCMP_ACT_ERRNO))
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0 and seccomp.seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, 0, None):
            raise OSError(f"no rule for {name}")
    if seccomp.seccomp_load(context):
        raise OSError("the filter was refused")


if __name__ == "__main__":
    shut_in(sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
