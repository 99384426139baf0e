#!/usr/bin/env python3
"""One control plane with many projects under many clients: times on the server, and whether its memory stays flat.

    cargo build --release
    benches/server.py --binary target/release/convexinfra

Starts a server on loopback in a folder of its own, fills it with record-only backends through the same requests that
the command sends, then reads projects as `plan` does. Times are the server's own, out of its metrics where it has them
and seen from the client otherwise. Needs nothing but Python; ends by itself, and talks to loopback only.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import subprocess
import tempfile
import time
import urllib.request


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/convexinfra")
    parser.add_argument("--projects", type=int, default=1000)
    parser.add_argument("--backends", type=int, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=100_000)
    return parser.parse_args()


class Connection:
    """One kept-alive HTTP/1.1 connection, small enough not to be what is measured."""

    def __init__(self, host, port, token):
        self.host, self.port, self.token = host, port, token
        self.reader = self.writer = None

    async def ask(self, method, path, body=None, headers=()):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        payload = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"host: {self.host}:{self.port}", f"authorization: Bearer {self.token}"]
        if payload:
            lines.append("content-type: application/json")
        if payload or method in ("POST", "PUT"):
            lines.append(f"content-length: {len(payload)}")
        lines.extend(headers)
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + payload)
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = re.search(rb"content-length: (\d+)", head, re.I)
        if length:
            answer = await self.reader.readexactly(int(length.group(1)))
        elif b"chunked" in head.lower():
            answer = b""
            while size := int(await self.reader.readline(), 16):
                answer += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            answer = b""
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return answer

    def close(self):
        if self.writer:
            self.writer.close()


def memory_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def fill(options, connect):
    queue = iter(range(options.projects))

    async def worker(connection):
        for number in queue:
            project = f"p{number:04}"
            lease = json.loads(
                await connection.ask(
                    "POST", f"/v1/projects/{project}/lease", {"user": "bench", "host": "bench", "process": 1}
                )
            )
            fence = f"convexinfra-fence: {lease['fence']}"
            for backend in range(options.backends):
                name = f"b{backend:02}"
                spec = {"provider": "simulated", "settings": {"simulated": {"listen": False}}}
                step = {"plan": f"sha256:{project}", "step": f"create:backend.{name}"}
                body = {"step": step, "backend": name, "work": {"kind": "put", "spec": spec}}
                await connection.ask("POST", f"/v1/projects/{project}/operations", body, [fence])
            await connection.ask("DELETE", f"/v1/projects/{project}/lease", None, [fence])
        connection.close()

    await asyncio.gather(*(worker(connect()) for _ in range(8)))


async def read(options, connect, count, clients):
    times = []
    numbers = iter(range(count))

    async def worker(connection):
        for number in numbers:
            began = time.perf_counter()
            await connection.ask("GET", f"/v1/projects/p{number * 7919 % options.projects:04}")
            times.append(time.perf_counter() - began)
        connection.close()

    await asyncio.gather(*(worker(connect()) for _ in range(clients)))
    return times


def histogram(metrics_url, route):
    """Upper bounds and counts of the server's own times for one route, or nothing."""
    if not metrics_url:
        return {}
    with urllib.request.urlopen(metrics_url) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        match = re.match(r'\w*request\w*_bucket\{(.*)\} ([\d.e+]+)', line)
        if match and f'route="{route}"' in match.group(1) and 'method="GET"' in match.group(1):
            bound = re.search(r'le="([^"]+)"', match.group(1)).group(1)
            found[float("inf") if bound == "+Inf" else float(bound)] = found.get(bound, 0) + float(match.group(2))
    return found


def percentile(before, after, share):
    total = after.get(float("inf"), 0) - before.get(float("inf"), 0)
    for bound in sorted(after):
        if total and after[bound] - before.get(bound, 0) >= share * total:
            return bound * 1000
    return float("nan")


def main():
    options = arguments()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "CONVEXINFRA_HOME": os.path.join(home, "home")}
        token = subprocess.run([options.binary, "serve", "--init"], env=environment, capture_output=True, text=True, check=True).stdout.strip()
        words = [options.binary, "serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--rate-limit", "1000000"]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
            addresses = {}
            for line in server.stderr:
                for kind, url in re.findall(r"(figures|listening) (?:on|at) (http://\S+)", line):
                    addresses[kind] = url
                if "listening" in addresses and "figures" in addresses:
                    break
            # A writer of the log must not wait for its reader.
            import threading

            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            host, port = addresses["listening"].removeprefix("http://").rstrip("/").split(":")
            metrics = addresses.get("figures")
            if metrics and not metrics.endswith("/metrics"):
                metrics = metrics.rstrip("/") + "/metrics"
            try:
                run(options, server.pid, lambda: Connection(host, int(port), token), metrics)
            finally:
                server.terminate()
                server.wait(60)


def run(options, pid, connect, metrics):
    began = time.perf_counter()
    asyncio.run(fill(options, connect))
    took = time.perf_counter() - began
    operations = options.projects * options.backends
    print(f"{options.projects} projects with {options.backends} backends each: filled in {took:.1f} s, {took / operations * 1000:.2f} ms an operation")
    route = "/v1/projects/{project}"
    for clients in (1, options.clients):
        before, busy = histogram(metrics, route), cpu_seconds(pid)
        times = sorted(asyncio.run(read(options, connect, 5000, clients)))
        after, busy = histogram(metrics, route), cpu_seconds(pid) - busy
        at = lambda share: times[int(share * (len(times) - 1))] * 1000
        print(
            f"{clients:3} clients, 5000 reads of one project: server p50 <= {percentile(before, after, 0.5):g} ms, "
            f"p99 <= {percentile(before, after, 0.99):g} ms; {busy / 5000 * 1000:.2f} ms CPU each; "
            f"client saw p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms"
        )
    steps = [memory_mib(pid)]
    for _ in range(4):
        asyncio.run(read(options, connect, options.requests // 4, options.clients))
        steps.append(memory_mib(pid))
    print(f"memory over {options.requests} requests: " + ", ".join(f"{step:.1f}" for step in steps) + " MiB")
    print(f"growth from the first quarter to the last: {statistics.fmean(steps[-1:]) - steps[1]:+.1f} MiB")


if __name__ == "__main__":
    main()
