"""The files that comparisons are made on: shell and Python programs that write them inside a container."""

PACKAGES = (
    "imagemagick sqlite3 jq less tree file rsync vim-tiny sudo iputils-ping openssh-client man-db postgresql-client "
    "cron acl attr"
)
"""Some fifty and more Debian packages with what they depend on; among them set-id programs, users and capabilities."""

TREE = r"""
mkdir -p /tree/deep/er/still /tree/other /tree/empty; cd /tree
printf 'plain' >plain; : >empty-file; head -c 3000000 /dev/urandom >big; seq 100000 >numbers
printf 'private' >private; chmod 0600 private; chown 1234:4321 private; chown 4294967294:65536 empty-file
for mode in 4755 2755 6711 1644 0000 7777; do
  printf $mode >mode-$mode; chown 7:8 mode-$mode; chmod $mode mode-$mode
done
for mode in 1777 2775 0000 7700; do mkdir dir-$mode; : >dir-$mode/in; chown 9:10 dir-$mode; chmod $mode dir-$mode; done
ln -s /etc/passwd absolute; ln -s ../../etc relative; ln -s nowhere dangling; ln -s /proc/self/exe outside
ln -s loop-b loop-a; ln -s loop-a loop-b; ln -s . self; ln -s .. deep/up; ln -s ../tree deep/er/round
ln -s "$(printf '%04000d' 7)" far; chown -h 11:12 dangling; touch -hd '2001-02-03 04:05:06.7' dangling
mkfifo pipe; chmod 0640 pipe; ln pipe pipe-b
mknod null c 1 3; mknod disk b 7 200; mknod large c 4095 1048575; chmod 0600 null; chown 13:14 disk; ln disk disk-b
printf 'linked' >link-a; ln link-a link-b; ln link-a deep/er/link-c; ln link-a /opt/link-d
ln -s x sym-a; ln sym-a sym-b
ln /usr/bin/env other/env; ln /etc/profile /etc/profile-linked; ln /usr/bin/git other/git
touch -d '1960-02-03 04:05:06.123456789' old; touch -d '2100-01-01 00:00:00.000000001' future
touch -d '2038-01-19 03:14:08.5' late; touch -d '2400-01-01' later; touch -d '1969-12-31 23:59:59.999999999 UTC' edge
rm /etc/issue; rm -r /usr/share/bash-completion /etc/skel; printf file >/etc/skel
rm /etc/debian_version; mkdir /etc/debian_version; printf in >/etc/debian_version/in
rm -r /etc/alternatives; mkdir /etc/alternatives; printf new >/etc/alternatives/only
mkdir /etc/alternatives/sub; ln -s only /etc/alternatives/sub/link
rm -r /usr/share/zoneinfo/Europe; mkdir -p /usr/share/zoneinfo/Europe/Berlin/deep; rm -r /usr/share/zoneinfo/Asia/*
rm /etc/os-release; printf 'was a link' >/etc/os-release; rm -r /var/log; ln -s /opt /var/log
printf moved >/tmp/new; mv /tmp/new /etc/group; chmod 0700 /usr/share/ca-certificates; chown 15:16 /usr/lib/git-core
cp -r /usr/lib/python3/dist-packages/pip other/pip; mv /usr/share/keyrings other/keyrings
touch -d '2010-10-10 10:10:10.123456789' deep deep/er empty /usr/share/zoneinfo
touch -d '1969-12-31 23:59:59 UTC' other
"""

TREE_ATTRIBUTES = r"""
import os, struct
os.chdir("/tree")
def acl(*extra):
    found = [(1, 6, 0xFFFFFFFF), *extra, (4, 4, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in found)
def capability(bit): return struct.pack("<IIIII", 0x02000001, 1 << bit, 0, 0, 0)
os.makedirs("strange/inherits"); open("strange/tagged", "w").close(); open("strange/ping", "w").close()
for name, value in {"plain": b"value", "all": bytes(range(256)), "none": b"", "a=b%c\n": b"1=2\n3"}.items():
    os.setxattr("strange/tagged", "user." + name, value)
os.setxattr("strange", "user.dir", b"d"); os.setxattr("big", b"user.caf\xe9", b"latin")
os.setxattr("/", "user.r", b"1")
os.setxattr("strange/tagged", "user.long", b"x" * 2000)
os.chmod("strange/ping", 0o4755); os.setxattr("strange/ping", "security.capability", capability(13))
os.setxattr("/usr/bin/curl", "security.capability", capability(10)); os.link("strange/ping", "deep/ping")
os.setxattr("plain", "system.posix_acl_access", acl((2, 4, 1234)))
os.setxattr("strange/inherits", "system.posix_acl_access", acl((2, 7, 1), (2, 5, 4321)))
os.setxattr("strange/inherits", "system.posix_acl_default", acl((2, 6, 77)))
open("strange/inherits/child", "w").close(); os.mkdir("strange/inherits/below")
os.mkdir("strange/inherits/plain"); os.removexattr("strange/inherits/plain", "system.posix_acl_default")
os.removexattr("strange/inherits/plain", "system.posix_acl_access"); os.chmod("strange/inherits/plain", 0o700)
"""

TREE_CHANGES = r"""
cd /tree; rm link-a; printf 'x' >>link-b; rm disk; ln null null-b; rm self; mkdir self; : >self/in
rm -r dir-0000 deep/er/still; : >dir-2775/new; chmod 0644 mode-4755; rm mode-7777; mkdir mode-7777; mv other elsewhere
rm plain; ln -s big plain; rm -r empty; mkfifo empty; ln -sfn elsewhere relative; mv pipe deep/pipe
truncate -s 1M numbers
printf again >/etc/issue; rm -r /etc/debian_version; printf 12 >/etc/debian_version; rm /var/log; mkdir /var/log
mkdir /usr/share/bash-completion; rm -r /usr/share/zoneinfo/Europe; chmod 0755 /usr/share/ca-certificates
rm /etc/skel; rm -r /usr/share/zoneinfo/America; touch -d '2011-11-11 11:11:11.111' . deep /etc
printf y | dd of=big bs=1 seek=1500000 conv=notrunc status=none; touch -d '2011-11-11 11:11:11' big; chown 1:1 private
"""

GIT = r"""
mkdir /repository; cd /repository; git init -q; git config user.name T; git config user.email t@example.org
for round in 1 2 3 4 5 6 7 8; do
  mkdir -p src/d$round; for i in 1 2 3 4 5; do seq $round $((round * 300 + i)) >src/d$round/f$i; done
  seq $round 2000 >src/same; git add -A; git commit -qm "round $round"; git tag -a v$round -m v$round
done
git checkout -q -b side v3; echo side >src/side; git add -A; git commit -qm side; git checkout -q master
git merge -q --no-edit side; git gc -q; git worktree add -q /worktree v5
echo dirty >>src/same; echo staged >src/staged; git add src/staged; git stash -q; echo loose >src/loose
"""

TINY_FILES = r"""
import os
for top in range(100):
    os.makedirs(f"/tiny/{top // 10}/{top}")
    for number in range(1000):
        with open(f"/tiny/{top // 10}/{top}/{number}", "wb") as file:
            file.write(b"%d" % (top * number))
"""

SPARSE = r"""
import os
large = 1 << 26
size = 1 << 26
os.mkdir("/sparse")
def write(name, *places, length=size):
    with open("/sparse/" + name, "wb") as file:
        for place in places:
            file.seek(place); file.write(os.urandom(5000))
        file.truncate(length)
write("islands", 0, large // 4 + 123, large // 2, large - 5000, length=large)
write("begins", 0); write("ends", size - 5000); write("hollow"); write("small", 40000, length=90000)
with open("/sparse/zeros", "wb") as file:
    file.write(bytes(300000))
"""

HOLES = r"""
import os
for name in sorted(os.listdir("/sparse")):
    with open("/sparse/" + name, "rb") as file:
        status, at, found = os.stat(file.fileno()), 0, []
        while at < status.st_size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at))
        print(name, status.st_size, status.st_blocks, found)
"""

FAR = r"""
import os
os.mkdir("/far"); os.chdir("/far")
for depth in range(1, 31):
    for name in ("n" * 255, "f"):
        with open(name, "w") as file:
            file.write(f"{depth} {name}")
    os.symlink("t" * 4095, "link"); os.mkdir("d" * 200); os.chdir("d" * 200)
"""
"""Thirty directories in each other, 6,000 bytes deep; three files in each but the last."""
