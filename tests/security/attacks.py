"""What a hostile command tries that needs no more than one container: each prints `breached`, or how it was held."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Final

PRELUDE: Final = '''
import ctypes, errno, os, platform, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(function, *arguments):
    """The error's name, or `breached`."""
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "breached"
def call(number, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(number, *arguments)
    return "breached" if done >= 0 else errno.errorcode[ctypes.get_errno()]
'''


@dataclass(frozen=True, slots=True)
class Attack:
    """A Python program and the one line it prints when it is held."""

    name: str
    script: str
    held: str
    """A regular expression for all of its output."""
    gvisor: str | None = None
    """The same under gVisor, where it differs; empty: it is no attack there."""

    @property
    def program(self) -> str:
        return PRELUDE + dedent(self.script)


ATTACKS: Final = (
    Attack(
        "mount",
        """
        done = subprocess.run(["mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True)
        print("refused" if done.returncode else "breached")
        """,
        "refused",
    ),
    Attack("mount-by-hand", "print(call(165, b'x', b'/mnt', b'tmpfs', 0, 0))", "EPERM"),
    Attack(
        "remount-writable",
        """
        print(attempt(lambda: open("/proc/sys/kernel/core_pattern", "w").write("|/bin/sh")),
              attempt(lambda: open("/proc/sysrq-trigger", "w").write("b")),
              attempt(lambda: open("/sys/kernel/profiling", "w").write("1")))
        """,
        r"EROFS (EROFS|ENOENT) (EROFS|ENOENT)",
        # These files are of its own kernel.
        gvisor="",
    ),
    Attack(
        "new-namespaces",
        """
        print(call(272, 0x10000000), call(272, 0x00020000), call(56, 0x10000011, 0, 0, 0, 0), call(435, 0, 0))
        """,
        "EPERM EPERM EPERM ENOSYS",
        # Of its own kernel: no namespace of the host's is in reach.
        gvisor="",
    ),
    Attack(
        "enter-namespaces",
        "print(*{call(308, os.open(f'/proc/1/ns/{name}', os.O_RDONLY), 0) for name in ('mnt', 'net', 'pid')})",
        "EPERM",
        gvisor="",
    ),
    Attack(
        "chroot-escape",
        """
        os.mkdir("/tmp/cave")
        here = os.open("/", os.O_RDONLY)
        os.chroot("/tmp/cave")
        os.fchdir(here)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        found = os.listdir("/")
        print("held" if not found or os.path.exists("/run/hibernaut/supervise") else f"breached: {found}")
        """,
        "held",
    ),
    Attack(
        "file-by-handle",
        """
        handle = (ctypes.c_ubyte * 16)(8, 0, 0, 0, 1, 0, 0, 0, 2)
        print(call(304, os.open("/etc/hosts", os.O_RDONLY), handle, 0))
        """,
        "EPERM",
        gvisor="ENOTSUP|ENOSYS|EPERM",
    ),
    Attack(
        "memory-devices",
        """
        found = []
        for name, device in {"mem": (1, 1), "kmem": (1, 2), "port": (1, 4), "kmsg": (1, 11),
                             "kvm": (10, 232), "loop": (10, 237), "mapper": (10, 236)}.items():
            path = f"/tmp/{name}"
            made = attempt(os.mknod, path, 0o600 | 0o020000, os.makedev(*device))
            found.append(attempt(os.open, path, os.O_RDWR) if made == "breached" else made)
        print(*sorted(set(found)))
        """,
        "EPERM",
        gvisor=r"(EPERM|ENXIO|ENODEV|EACCES)( (EPERM|ENXIO|ENODEV|EACCES))*",
    ),
    Attack(
        "network-devices",
        """
        import fcntl, struct
        # runc lets it be opened; what it is for needs a capability.
        os.mknod("/tmp/tun", 0o600 | 0o020000, os.makedev(10, 200))
        print(attempt(lambda: fcntl.ioctl(os.open("/tmp/tun", os.O_RDWR), 0x400454CA, struct.pack("16sH", b"x", 1))))
        """,
        "EPERM|ENODEV|ENXIO",
        gvisor="EPERM|ENXIO|ENODEV|EACCES",
    ),
    Attack(
        "kernel-modules",
        """
        print(call(175, b"x", 1, b""), call(313, 0, b"", 0), call(176, b"x", 0),
              *(attempt(socket.socket, family, socket.SOCK_DGRAM) for family in (21, 29, 30)),
              attempt(socket.socket, 38, socket.SOCK_SEQPACKET),
              # SCTP, DCCP, L2TP, crypto: for a protocol that it lacks, the kernel asks for a module as well.
              *(attempt(socket.socket, *asked)
                for family in (2, 10)
                for asked in ((family, 5, 132), (family, 1, 132), (family, 6, 0), (family, 2, 115))),
              attempt(socket.socket, 16, 3, 21))
        """,
        "EPERM( EPERM){15}",
        gvisor=r"((EPERM|EINVAL|ENOSYS|EAFNOSUPPORT|EPROTONOSUPPORT|ESOCKTNOSUPPORT) ?)+",
    ),
    Attack(
        "io-uring",
        """
        parameters = (ctypes.c_ubyte * 120)()
        print(call(425, 8, parameters), call(426, 0, 0, 0, 0, 0), call(427, 0, 0, 0, 0))
        """,
        "EPERM EPERM EPERM",
        gvisor="ENOSYS ENOSYS ENOSYS",
    ),
    Attack(
        "risky-system-calls",
        """
        numbers = {"bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249,
                   "keyctl": 250, "kexec_load": 246, "kexec_file_load": 320, "swapon": 167, "swapoff": 168,
                   "reboot": 169, "settimeofday": 164, "clock_settime": 227, "sethostname": 170, "iopl": 172,
                   "ioperm": 173, "acct": 163,
                   "quotactl": 179, "pivot_root": 155, "umount2": 166, "syslog": 103, "fsopen": 430, "open_tree": 428,
                   "move_mount": 429, "fanotify_init": 300, "kcmp": 312, "pidfd_getfd": 438, "process_madvise": 440,
                   "lookup_dcookie": 212, "modify_ldt": 154, "mount_setattr": 442, "quotactl_fd": 443}
        found = {name: call(number, 0, 0, 0, 0, 0) for name, number in numbers.items()}
        print(*[f"{name}={told}" for name, told in found.items() if told != "EPERM"] or ["all refused"])
        """,
        "all refused",
        # It has most of them for itself, and asks the host for none.
        gvisor="",
    ),
    Attack("executable-data", "print(call(135, 0x0400000))", "EPERM", gvisor=""),
    Attack(
        "raw-sockets",
        """
        print(attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
              attempt(socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
              attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW))
        """,
        "EPERM EPERM EPERM",
        gvisor=r"((EPERM|EACCES|EAFNOSUPPORT|EPROTONOSUPPORT) ?)+",
    ),
    Attack(
        "setuid-root",
        """
        subprocess.run("cp $(command -v id) /tmp/id && chmod 4755 /tmp/id", shell=True, check=True)
        told = subprocess.run(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "/tmp/id"],
                              capture_output=True, text=True, check=True).stdout
        print("breached" if "euid=0" in told else "held")
        """,
        "held",
    ),
    Attack(
        "trace-as-a-user",
        """
        def trace():
            os.setgid(1000)
            os.setuid(1000)
            print(*{call(101, 16, pid, 0, 0) for pid in [1, *supervisors]},
                  *{attempt(open, f"/proc/{pid}/mem", "rb") for pid in [1, *supervisors]})
        supervisors = [int(pid) for pid in os.listdir("/proc") if pid.isdecimal()
                       and b"supervise" in open(f"/proc/{pid}/cmdline", "rb").read()]
        assert supervisors
        trace()
        """,
        "EPERM EACCES",
        gvisor=r"(EPERM|EACCES) (EACCES|EPERM|ENOENT)",
    ),
    Attack(
        "release-agent",
        """
        import glob
        agents = glob.glob("/sys/fs/cgroup/**/release_agent", recursive=True)
        print(*{attempt(open, path, "w") for path in agents} or ["none"],
              call(165, b"cgroup", b"/mnt", b"cgroup", 0, b"memory"),
              *{attempt(os.mkdir, f"{path}/mine") for path in glob.glob("/sys/fs/cgroup/*/")[:3]} or ["none"])
        """,
        r"(EROFS|none|EACCES) EPERM (EROFS|none|EACCES|ENOENT)",
        gvisor="",
    ),
    Attack(
        "larger-limits",
        """
        import resource
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        def raised():
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (most * 2, most * 2))
            except ValueError:
                raise OSError(errno.EPERM, "")
        print(attempt(raised), attempt(os.nice, -5), attempt(os.sched_setscheduler, 0, 1, os.sched_param(1)))
        """,
        "EPERM (EPERM|EACCES) EPERM",
        gvisor="EPERM .*",
    ),
    Attack(
        "secrets-of-the-worker",
        """
        print(*sorted({name.decode().partition("=")[0] for pid in os.listdir("/proc") if pid.isdecimal()
                       for name in open(f"/proc/{pid}/environ", "rb").read().split(b"\\0")
                       if name.startswith((b"AWS_", b"HIBERNAUT_", b"TEMPORAL_", b"OPENAI_", b"DOCKER_"))}) or ["none"])
        """,
        "none",
    ),
    Attack(
        "docker-socket",
        """
        found = subprocess.run("find / -xdev -name 'docker*.sock' -o -xdev -name 'containerd*.sock'", shell=True,
                               capture_output=True, text=True).stdout.split()
        names = [line.split()[-1] for line in open("/proc/net/unix").read().splitlines()[1:] if "@" in line]
        print(*found, *names or ["none"])
        """,
        "none",
    ),
    Attack(
        "metadata-address",
        """
        def reach():
            socket.create_connection(("169.254.169.254", 80), timeout=2)
        print(attempt(reach), *(name for _, name in socket.if_nameindex()))
        """,
        "ENETUNREACH lo",
        gvisor=r"(ENETUNREACH|EHOSTUNREACH|EADDRNOTAVAIL).*",
    ),
)
