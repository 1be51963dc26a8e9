"""A real PostgreSQL on loopback for tests: Debian's package, in a folder of its own."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import free_ports


@dataclass(kw_only=True)
class Postgres:
    """One server, its data and its only user's password."""

    folder: Path
    binaries: Path
    port: int
    password: str
    account: str | None  # the system's, that it runs as; root may not run it
    _server: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> Mapping[str, str]:
        """What deploy/dagster.yaml reads."""
        return {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_USER": "dagster",
            "DAGSTER_PG_PASSWORD": self.password,
            "DAGSTER_PG_DB": "dagster",
        }

    def start(self) -> None:
        """Start the server; returns when it answers."""
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1"]
        options += ["-k", str(self.folder), "-c", "fsync=off", "-c", "max_connections=200"]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self.binaries / "postgres"), *options],
                user=self.account,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ready = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        for _ in range(300):
            assert self._server.poll() is None, (self.folder / "log").read_text()
            if subprocess.run(ready, check=False, timeout=10).returncode == 0:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(0.1)
        raise AssertionError("PostgreSQL does not answer")

    def stop(self) -> None:
        """End the server at once, connections and all."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)  # a fast shutdown
            self._server.wait(30)
            self._server = None

    def query(self, sql: str) -> str:
        """What psql prints of a query, values alone."""
        address = f"host=127.0.0.1 port={self.port} user=dagster dbname=dagster"
        done = subprocess.run(
            [str(self.binaries / "psql"), address, "-Atqc", sql],
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@contextlib.contextmanager
def running_postgres() -> Generator[Postgres]:
    """A server with an empty database `dagster`, taken down and removed at the end."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    binaries = found[-1].parent if found else Path(on_path).parent if on_path else None
    if binaries is None:
        pytest.fail("no PostgreSQL server here: install Debian's package postgresql")
    account = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        account = "postgres" if "postgres" in names else "nobody"
    [port] = free_ports(1)
    # Not pytest's folder: no other account may enter that.
    with tempfile.TemporaryDirectory(prefix="olmo-postgres-") as name:
        folder = Path(name)
        server = Postgres(
            folder=folder,
            binaries=binaries,
            port=port,
            password=secrets.token_urlsafe(12) + "@:/%'\"",  # whatever an address would trip over
            account=account,
        )
        (folder / "password").write_text(server.password)
        if account:
            for path in (folder, folder / "password"):
                shutil.chown(path, account)
        initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "dagster"]
        initdb += ["--auth=scram-sha-256", "--pwfile", str(folder / "password"), "--no-sync"]
        subprocess.run(initdb, user=account, cwd=folder, check=True, capture_output=True)
        server.start()
        try:
            address = ["-h", "127.0.0.1", "-p", str(port), "-U", "dagster"]
            subprocess.run(
                [str(binaries / "createdb"), *address, "dagster"],
                env={**os.environ, "PGPASSWORD": server.password},
                check=True,
            )
            yield server
        finally:
            server.stop()
