#!/bin/sh
# The last step of the sandbox image, run inside it as root, whichever way the image is built (Dockerfile or Debian packages).
set -eu
export LC_ALL=C.UTF-8

useradd --uid 1000 --user-group --create-home --home-dir /home/agent --shell /bin/bash agent

# Byte code by content hash: Python never rewrites it, so running a program leaves no trace in an agent's snapshots, and two
# builds of the same packages are the same bytes (so nothing of the builder's environment may reach the compiler).
find /usr/lib/python3* /usr/share/python3 -type d -name __pycache__ -prune -exec rm -rf {} +
env -i PATH="$PATH" LC_ALL="$LC_ALL" PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 \
    python3 -m compileall -q --invalidation-mode checked-hash /usr/lib/python3* /usr/share/python3

# Left in place these would make two builds differ, or serve no one in a container.
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/* /root/.cache
rm -f /var/cache/debconf/*-old /var/lib/dpkg/*-old /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
rm -f /etc/apt/apt.conf.d/99mmdebstrap

# A compiler here would be a surprise in size and in what an agent can do by default: fail the build instead.
for tool in cc gcc c++ make; do
    if command -v "$tool" >/dev/null 2>&1; then
        echo "the sandbox image must hold no build tools, but has $tool" >&2
        exit 1
    fi
done
