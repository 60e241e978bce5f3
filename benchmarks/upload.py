"""How fast do bytes become durable, and at what price?

One server process on loopback, a sender that does nothing but `sendfile`, each figure the median of some rounds
taken in turn. The limit is a raw TCP connection whose receiver writes to the same disk and syncs once at its end:
it speaks no HTTP, checks nothing and computes no SHA-256. What it cannot show: a network, another disk, and more
than the few cores of one machine, which sender and server share here.
"""

from __future__ import annotations

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # queue.py beside this would hide the standard library's

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import NamedTuple

import httpx

MIB = 2**20
TOKEN = "benchmark"
TUS = {"Authorization": f"Bearer {TOKEN}", "Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}


class Run(NamedTuple):
    seconds: float
    cpu_seconds: float
    #: From the last byte sent to the answer.
    tail_seconds: float


class Server:
    """A portal, or the raw receiver, in a process of its own."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = os.environ | {
            "SCIENTISTCLOUD_DATA_DIR": str(data_dir),
            "SCIENTISTCLOUD_TOKEN": TOKEN,
            "SCIENTISTCLOUD_DISK_RESERVE_BYTES": "0",
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(self.port), str(data_dir), *options], env=environment
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def open_upload(server: Server, length: int, **metadata: str) -> httpx.Response:
    from scientistcloud.uploads.metadata import encode

    headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": encode({"filename": "a.bin"} | metadata)}
    answer = httpx.post(f"http://127.0.0.1:{server.port}/api/uploads/", headers=headers)
    assert answer.status_code == 201, answer.text
    return answer


def patch(server: Server, place: str, file: Path, *, offset: int, size: int) -> float:
    """Send so many bytes in one PATCH; the seconds from the last byte to the answer."""
    with socket.create_connection(("127.0.0.1", server.port)) as line, file.open("rb") as source:
        headers: Mapping[str, str] = BYTES | {"Upload-Offset": str(offset), "Content-Length": str(size)}
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\n{text}\r\n".encode())
        sent = 0
        while sent < size:
            sent += os.sendfile(line.fileno(), source.fileno(), offset + sent, size - sent)
        last = time.perf_counter()
        answer = HTTPResponse(line)
        answer.begin()
        assert answer.status == 204, answer.status
        return time.perf_counter() - last


def upload(server: Server, file: Path, *, piece: int) -> Run:
    size = file.stat().st_size
    place = open_upload(server, size).headers["Location"]
    cpu, began, tail = server.cpu_seconds(), time.perf_counter(), 0.0
    for offset in range(0, size, piece):
        tail = patch(server, place, file, offset=offset, size=min(piece, size - offset))
    return Run(time.perf_counter() - began, server.cpu_seconds() - cpu, tail)


def raw(server: Server, file: Path) -> Run:
    size = file.stat().st_size
    cpu, began = server.cpu_seconds(), time.perf_counter()
    with socket.create_connection(("127.0.0.1", server.port)) as line, file.open("rb") as source:
        sent = 0
        while sent < size:
            sent += os.sendfile(line.fileno(), source.fileno(), sent, size - sent)
        line.shutdown(socket.SHUT_WR)
        last = time.perf_counter()
        assert line.recv(1) == b"+"
    now = time.perf_counter()
    return Run(now - began, server.cpu_seconds() - cpu, now - last)


def small_files(server: Server, *, number: int, connections: int) -> float:
    """Files of 4 KiB a second, each opened and sent in one request, into one data set."""
    from scientistcloud.uploads.metadata import encode

    base = f"http://127.0.0.1:{server.port}"
    uuid = httpx.post(f"{base}/api/datasets", headers=TUS, json={"name": "small"}).json()["uuid"]
    content = os.urandom(4096)

    def send(part: int) -> None:
        with httpx.Client(base_url=base, timeout=60) as client:
            for n in range(part, number, connections):
                metadata = encode({"filename": f"{n}.bin", "dataset": uuid})
                headers = BYTES | {"Upload-Length": "4096", "Upload-Metadata": metadata}
                answer = client.post("/api/uploads/", headers=headers, content=content)
                assert answer.status_code == 201, answer.text

    threads = [threading.Thread(target=send, args=(part,)) for part in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return number / (time.perf_counter() - began)


def take_over(server: Server, file: Path) -> float:
    """Seconds until a new request has sent its first MiB beside one that hangs."""
    place = open_upload(server, 64 * MIB).headers["Location"]
    with socket.create_connection(("127.0.0.1", server.port)) as hung:
        headers = BYTES | {"Upload-Offset": "0", "Content-Length": str(64 * MIB)}
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        hung.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\n{text}\r\n".encode() + bytes(5 * MIB))
        time.sleep(0.5)
        began = time.perf_counter()
        patch(server, place, file, offset=0, size=MIB)
        return time.perf_counter() - began


# -- the servers ---------------------------------------------------------------------------------


def serve(port: int, data_dir: Path, *, kind: str) -> None:
    if kind == "raw":
        return receive_raw(port, data_dir)
    if kind == "unsynced":
        os.fsync = os.fdatasync = lambda _: None  # type: ignore[assignment]
    from scientistcloud import open_store
    from scientistcloud.portal.app import create_app
    from scientistcloud.portal.server import PortalServer
    from scientistcloud.settings import read_settings

    settings = read_settings(data_dir=data_dir)
    with socket.create_server(("127.0.0.1", port), backlog=2048) as listener:
        PortalServer(create_app(settings, open_store(settings.store_url))).run(sockets=[listener])
    return None


def receive_raw(port: int, data_dir: Path) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    buffer = memoryview(bytearray(4 * MIB))
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            line, _ = listening.accept()
            with line, (data_dir / "raw").open("wb", buffering=0) as file:
                while size := line.recv_into(buffer):
                    file.write(buffer[:size])
                os.fdatasync(file.fileno())
                try:
                    line.sendall(b"+")
                except OSError:  # the look whether we are up
                    continue


# -- the table -----------------------------------------------------------------------------------


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mib", type=int, default=1024, help="size of the large file")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--files", type=int, default=2000, help="number of small files")
    options.add_argument("--folder", type=Path, help="where to write; default: the system's temporary folder")
    given = options.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="scientistcloud-bench-", dir=given.folder))
    servers = {kind: Server(scratch / kind, kind) for kind in ("raw", "durable", "unsynced")}
    try:
        file = scratch / "large.bin"
        with file.open("wb") as large:
            for _ in range(given.mib):
                large.write(os.urandom(MIB))
            os.fsync(large.fileno())
        whole, size = given.mib * MIB, given.mib
        programs: dict[str, Callable[[], Run]] = {
            "raw TCP to disk, one fdatasync (the limit)": lambda: raw(servers["raw"], file),
            "one PATCH, durable": lambda: upload(servers["durable"], file, piece=whole),
            "one PATCH, syncs off": lambda: upload(servers["unsynced"], file, piece=whole),
            "PATCHes of 64 MiB, durable": lambda: upload(servers["durable"], file, piece=64 * MIB),
        }
        runs: dict[str, list[Run]] = {name: [] for name in programs}
        for _ in range(given.rounds):
            for name, program in programs.items():
                runs[name].append(program())
                for kind in servers:
                    shutil.rmtree(scratch / kind / "datasets", ignore_errors=True)
                os.sync()
        limit = statistics.median(run.seconds for run in runs["raw TCP to disk, one fdatasync (the limit)"])
        print(f"{size} MiB, medians of {given.rounds}")
        print(f"{'':44} {'MiB/s':>7} {'of the limit':>12} {'CPU s/GiB':>9} {'last byte to answer':>20}")
        for name, each in runs.items():
            seconds = statistics.median(run.seconds for run in each)
            cpu = statistics.median(run.cpu_seconds for run in each) * 1024 / size
            tail = statistics.median(run.tail_seconds for run in each)
            print(f"{name:44} {size / seconds:7.0f} {limit / seconds:12.0%} {cpu:9.2f} {tail * 1000:17.0f} ms")
        print(f"peak memory of the durable server {servers['durable'].peak_mib():.0f} MiB")
        takes = statistics.median(take_over(servers["durable"], file) for _ in range(5))
        print(f"take-over from a hung writer, with 1 MiB sent {takes * 1000:.0f} ms")
        for connections in (1, 8):
            rate = small_files(servers["durable"], number=given.files, connections=connections)
            print(f"files of 4 KiB over {connections} connections: {rate:.0f} a second")
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(scratch)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), Path(sys.argv[3]), kind=sys.argv[4])
    else:
        main()
