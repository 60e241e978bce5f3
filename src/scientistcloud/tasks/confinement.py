"""Shutting the process of an attempt in: it reads its data set and the libraries, writes its output, and no more.

Landlock, by the kernel's own calls (man 7 landlock): whatever a file persuades a reading library to do happens
under these rules. They cannot be taken back, and hold for what the process starts too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on all architectures
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_NO_NEW_PRIVS = 38
_LEAST_ABI = 2  # before it, files cannot be moved between folders, which publishing does
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_READ = _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | 1 << 14 | 1 << 15  # truncate, ioctl of devices
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many there are, by the kernel's version of Landlock
_BIND_AND_CONNECT = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3

_SYSTEM = (
    "/usr", "/lib", "/lib64", "/bin", "/opt", "/nix", "/etc/ld.so.cache", "/etc/localtime", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system", "/sys/fs/cgroup",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def landlock_version() -> int:
    """The kernel's version of Landlock; 0 where it has none, or none that is enough here."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x"):
        return 0
    version = int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG))
    return version if version >= _LEAST_ABI else 0


def confine(*, read: Iterable[Path], write: Path) -> bool:
    """Let this thread, and what it starts from now on, read `read` and the libraries, and write into `write` alone.

    No other file, no TCP, no abstract socket and no foreign process is within reach then; what is open stays so.
    Call it before threads are started. False where the kernel cannot do it: then nothing has changed.
    """
    version = landlock_version()
    if not version:
        return False
    files = (1 << _RIGHTS.get(version, 16)) - 1
    handled = [files]
    if version >= 4:
        handled.append(_BIND_AND_CONNECT)
    if version >= 6:
        handled.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    rules = _called(libc, _CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        tempfile.tempdir = str(write)
        for path in (*_libraries(beside=write), *read):
            _allow(libc, rules, path, files & (_READ | _EXECUTE))
        for path in map(Path, _DEVICES):
            _allow(libc, rules, path, files & (_READ_FILE | _WRITE_FILE))
        _allow(libc, rules, write, files & ~_EXECUTE)
        if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _called(libc, _RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return True


def _libraries(*, beside: Path) -> list[Path]:
    """Where Python, its packages and their libraries lie; no folder that `beside` lies in.

    Python looks for modules where it was started, too, and that may be the data folder.
    """
    known = {*_SYSTEM, sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()}
    known |= {path for path in sys.path if Path(path).is_absolute()}
    return [Path(path) for path in sorted(known) if not beside.is_relative_to(path)]


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    with suppress(OSError):  # what is not there needs no rule
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rights = rights if path.is_dir() else rights & _OF_FILES
            rule = struct.pack("=Qi", rights, handle)
            _called(libc, _ADD, rules, _PATH_BENEATH, rule, 0)
        finally:
            os.close(handle)


def _called(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
