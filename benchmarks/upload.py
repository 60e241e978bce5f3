"""How fast do bytes become durable, and at what price?

Servers in processes of their own on loopback, a sender that does nothing but `sendfile`, each figure the median of
some rounds in which all take their turn; ratios are medians of the rounds' ratios. The limit is a raw TCP
connection whose receiver writes to the same disk and syncs once at its end: it speaks no HTTP, checks nothing and
computes no SHA-256. The peer is the official tus server for Node with its file store, which never syncs and
computes no SHA-256 either. What it cannot show: a network, another disk, and more than the few cores of one
machine, which sender and server share here.
"""

from __future__ import annotations

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # queue.py beside this would hide the standard library's

import argparse
import io
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

MIB = 2**20
TOKEN = "benchmark"
TUS = {"Authorization": f"Bearer {TOKEN}", "Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}
PEER = Path(__file__).with_name("upload_peers") / "node.mjs"
PEER_PACKAGES = ("@tus/server@2", "@tus/file-store@2")


class Run(NamedTuple):
    seconds: float
    cpu_seconds: float
    #: From the last byte sent to the answer.
    tail_seconds: float


class Server:
    """A portal, the raw receiver, or the peer, in a process of its own."""

    def __init__(self, data_dir: Path, kind: str, *, peer: Path | None = None) -> None:
        self.data_dir, self.kind, self._peer = data_dir, kind, peer
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--serve", str(self.port), str(self.data_dir), self.kind]
        if self._peer is not None:
            command = ["node", str(self._peer / PEER.name), str(self.port), str(self.data_dir)]
        environment = os.environ | {
            "SCIENTISTCLOUD_DATA_DIR": str(self.data_dir),
            "SCIENTISTCLOUD_TOKEN": TOKEN,
            "SCIENTISTCLOUD_DISK_RESERVE_BYTES": "0",
        }
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None, f"{self.kind} did not start"
                assert time.monotonic() < deadline, f"{self.kind} does not answer"
                time.sleep(0.05)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self, name: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024

    def clear(self) -> None:
        """Remove what was sent; the folders stay."""
        for name in ("datasets", ""):
            folder = self.data_dir / name
            if name or self._peer is not None:
                for each in folder.iterdir() if folder.exists() else ():
                    shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


# -- sending -------------------------------------------------------------------------------------


def open_upload(server: Server, length: int, **metadata: str) -> str:
    """The address of a new upload."""
    from scientistcloud.uploads.metadata import encode

    headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": encode({"filename": "a.bin"} | metadata)}
    answer = httpx.post(f"http://127.0.0.1:{server.port}/api/uploads", headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    return urlsplit(answer.headers["Location"]).path


def begun_patch(server: Server, place: str, *, offset: int, size: int) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", server.port))
    headers: Mapping[str, str] = BYTES | {"Upload-Offset": str(offset), "Content-Length": str(size)}
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    line.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\n{text}\r\n".encode())
    return line


def patch(server: Server, place: str, file: Path, *, offset: int, size: int) -> float:
    """Send so many bytes in one PATCH; the seconds from the last byte to the answer."""
    with begun_patch(server, place, offset=offset, size=size) as line, file.open("rb") as source:
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
    place = open_upload(server, size)
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


# -- other questions -----------------------------------------------------------------------------


def new_dataset(server: Server) -> str:
    answer = httpx.post(f"http://127.0.0.1:{server.port}/api/datasets", headers=TUS, json={"name": "small"})
    return str(answer.json()["uuid"])


def small_files(server: Server, *, number: int, connections: int) -> float:
    """Files of 4 KiB a second, each opened and sent in one request, into one data set."""
    from scientistcloud.uploads.metadata import encode

    uuid, content = new_dataset(server), os.urandom(4096)

    def send(part: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
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


def batch(server: Server, *, number: int) -> float:
    """Files of 4 KiB a second in one tar, which is made beforehand."""
    uuid, content, packed = new_dataset(server), os.urandom(4096), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for n in range(number):
            info = tarfile.TarInfo(f"slices/{n:06}.bin")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    address = f"http://127.0.0.1:{server.port}/api/uploads/batch?dataset={uuid}"
    began = time.perf_counter()
    answer = httpx.put(address, headers=TUS, content=packed.getvalue(), timeout=600)
    assert answer.json()["files"] == number, answer.text
    return number / (time.perf_counter() - began)


def take_over(server: Server, file: Path) -> float:
    """Seconds until a new request has sent its first MiB beside one that hangs."""
    place = open_upload(server, 64 * MIB)
    with begun_patch(server, place, offset=0, size=64 * MIB) as hung:
        hung.sendall(bytes(5 * MIB))
        time.sleep(0.5)
        began = time.perf_counter()
        patch(server, place, file, offset=0, size=MIB)
        return time.perf_counter() - began


def memory_of_open_uploads(server: Server, file: Path, *, number: int, size: int) -> float:
    """MiB that the server grows by for each of some uploads that are sent at once."""
    lines = [begun_patch(server, open_upload(server, size), offset=0, size=size) for _ in range(number)]
    before, highest, done = server.memory_mib(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.01):
            highest = max(highest, server.memory_mib())

    def send(line: socket.socket) -> None:
        with line, file.open("rb") as source:
            sent = 0
            while sent < size:
                sent += os.sendfile(line.fileno(), source.fileno(), sent, size - sent)
            answer = HTTPResponse(line)
            answer.begin()

    watching = threading.Thread(target=watch)
    threads = [threading.Thread(target=send, args=(line,)) for line in lines]
    for thread in (watching, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watching.join()
    return (highest - before) / number


def sent_again(server: Server, file: Path) -> float:
    """MiB that were sent, and have to be sent again, after the server was killed in the middle."""
    size = file.stat().st_size
    place = open_upload(server, size)
    sent = 0
    with begun_patch(server, place, offset=0, size=size) as line, file.open("rb") as source:
        while sent < 2 * size // 3:
            sent += os.sendfile(line.fileno(), source.fileno(), sent, MIB)
        server.stop()
    server.start()
    answer = httpx.head(f"http://127.0.0.1:{server.port}{place}", headers=TUS, timeout=60)
    return (sent - int(answer.headers["Upload-Offset"])) / MIB


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


def installed_peer(folder: Path) -> Path | None:
    """The peer in an environment of its own; None where Node or the registry cannot be had."""
    if shutil.which("npm") is None:
        print("npm is missing, so the server for Node is left out", file=sys.stderr)
        return None
    folder.mkdir()
    shutil.copy(PEER, folder)
    tried = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *PEER_PACKAGES],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        print(f"the server for Node cannot be installed and is left out: {tried.stderr[-200:]}", file=sys.stderr)
        return None
    return folder


# -- the tables ----------------------------------------------------------------------------------

LIMIT, DURABLE, UNSYNCED, PIECES, NODE = (
    "raw TCP to disk, one fdatasync (the limit)",
    "one PATCH, durable",
    "one PATCH, syncs off",
    "PATCHes of 64 MiB, durable",
    "@tus/server, never synced",
)


def rounds(servers: Mapping[str, Server], file: Path, number: int) -> dict[str, list[Run]]:
    whole = file.stat().st_size
    programs: dict[str, Callable[[], Run]] = {
        LIMIT: lambda: raw(servers["raw"], file),
        DURABLE: lambda: upload(servers["durable"], file, piece=whole),
        UNSYNCED: lambda: upload(servers["unsynced"], file, piece=whole),
        PIECES: lambda: upload(servers["durable"], file, piece=64 * MIB),
    }
    if "node" in servers:
        programs[NODE] = lambda: upload(servers["node"], file, piece=whole)
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for _ in range(number):
        for name, program in programs.items():
            runs[name].append(program())
            for server in servers.values():
                server.clear()
            os.sync()
    return runs


def ratio(runs: Mapping[str, list[Run]], faster: str, slower: str) -> float:
    """How many times as fast `faster` is: the median of the rounds."""
    return statistics.median(b.seconds / a.seconds for a, b in zip(runs[faster], runs[slower], strict=True))


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mib", type=int, default=1024, help="size of the large file")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--files", type=int, default=2000, help="small files that are sent singly")
    options.add_argument("--batch", type=int, default=10_000, help="small files in one tar")
    options.add_argument("--no-peer", action="store_true", help="without the server for Node")
    options.add_argument("--folder", type=Path, help="where to write; default: the system's temporary folder")
    given = options.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="scientistcloud-bench-", dir=given.folder))
    peer = None if given.no_peer else installed_peer(scratch / "peer")
    servers = {kind: Server(scratch / kind, kind) for kind in ("raw", "durable", "unsynced")}
    if peer is not None:
        servers["node"] = Server(scratch / "node", "node", peer=peer)
    durable = servers["durable"]
    try:
        file = scratch / "large.bin"
        with file.open("wb") as large:
            for _ in range(given.mib):
                large.write(os.urandom(MIB))
            os.fsync(large.fileno())
        rates = {n: small_files(durable, number=given.files, connections=n) for n in (1, 8)}
        batched = statistics.median(batch(durable, number=given.batch) for _ in range(3))
        runs = rounds(servers, file, given.rounds)
        takes = statistics.median(take_over(durable, file) for _ in range(5))
        memory = memory_of_open_uploads(durable, file, number=8, size=min(256, given.mib) * MIB)
        again = max(sent_again(durable, file) for _ in range(3))

        print(f"\n{given.mib} MiB, medians of {given.rounds} rounds; {os.cpu_count()} cores\n")
        row("", "MiB/s", "of the limit", "server CPU s/GiB", "last byte to answer")
        row("---", "---:", "---:", "---:", "---:")
        for name, each in runs.items():
            seconds = statistics.median(run.seconds for run in each)
            cpu = statistics.median(run.cpu_seconds for run in each) * 1024 / given.mib
            tail = statistics.median(run.tail_seconds for run in each) * 1000
            row(
                name,
                f"{given.mib / seconds:.0f}",
                f"{ratio(runs, name, LIMIT):.0%}",
                f"{cpu:.2f}",
                f"{tail:.0f} ms",
            )
        cpu = statistics.median(run.cpu_seconds for run in runs[DURABLE]) * 1024 / given.mib
        tail = statistics.median(run.tail_seconds for run in runs[DURABLE])
        print()
        row("figure", "here", "aim")
        row("---", "---:", "---:")
        row("durable, against the limit", f"{ratio(runs, DURABLE, LIMIT):.0%}", ">= 75 %")
        row("durable, against itself without syncs", f"{ratio(runs, DURABLE, UNSYNCED):.0%}", ">= 90 %")
        if NODE in runs:
            row("durable, against the Node server without syncs", f"{ratio(runs, DURABLE, NODE):.2f}", ">= 1.5")
        row("memory for each open upload", f"{memory:.1f} MiB", "<= 16 MiB")
        row("server CPU per GiB, SHA-256 included", f"{cpu:.2f} s", "<= 1.5 s")
        row("sent again after a kill", f"{again:.0f} MiB", "<= 64 MiB")
        row("take-over from a hung writer, 1 MiB sent", f"{takes * 1000:.0f} ms", "<= 100 ms")
        row("files of 4 KiB a second, singly over 1 connection", f"{rates[1]:.0f}", "")
        row("files of 4 KiB a second, singly over 8 connections", f"{rates[8]:.0f}", ">= 500")
        row("files of 4 KiB a second, in a batch", f"{batched:.0f}", ">= 20,000")
        row(f"last byte to answer, {given.mib} MiB", f"{tail * 1000:.0f} ms", "<= 100 ms")
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), Path(sys.argv[3]), kind=sys.argv[4])
    else:
        main()
