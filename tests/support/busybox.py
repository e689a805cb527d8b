"""An image that holds busybox and nothing else: what is promised of any image must hold in it."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from activities.adapters.docker_client import Daemon
from deploy.setup import apt

IMAGE = "hibernaut-test/busybox:latest"

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n",
    "etc/group": "root:x:0:\nagent:x:1000:\nextra:x:2000:agent\n",
}


def build_busybox_image(daemon: Daemon) -> str:
    """Import the image, replacing what an earlier run left; its name."""
    if shutil.which("busybox") is None:
        apt.install(["busybox-static"], why="tests need an image that holds busybox alone")
    program = Path(shutil.which("busybox") or "/bin/busybox")
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("home/agent", 0o755), ("root", 0o700)):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, mode
            member.uid = member.gid = 1000 if name == "home/agent" else 0
            archive.addfile(member)
        files = {"bin/busybox": program.read_bytes(), **{name: text.encode() for name, text in _FILES.items()}}
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(member, io.BytesIO(content))
        for applet in sorted({*applets} - {"busybox"}):
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
    repository, tag = IMAGE.split(":")
    daemon.api.import_image_from_data(buffer.getvalue(), repository=repository, tag=tag)
    return IMAGE
