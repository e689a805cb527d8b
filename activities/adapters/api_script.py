"""The script of the shell that stays in a container; see `api_shell`.

It starts every command itself, one after the other, and tells their process ids: whatever else is born shows.
"""

from __future__ import annotations

import re

LISTING = r"%y\0%m\0%U\0%G\0%s\0%T@\0%C@\0%i\0%n\0>%l\0/%P\0\0"
"""What `find` tells of a path. No field is ever empty: two NUL bytes are found at the end of a record alone."""

_TOOLS = (
    "find --version 2>/dev/null | grep -q GNU || { echo no GNU find >&2; exit 90; }; "
    "tar --version 2>/dev/null | grep -q GNU || { echo no GNU tar >&2; exit 90; }; "
)
BLOCK = 1 << 16
"""Large files are read in parts of so many bytes."""
SEGMENT_BYTES = 8 << 20
"""So much of a large file is summed up at once."""
SUM_BYTES = 32
"""Of the BLAKE2b sum of a segment."""
HEAD_BYTES = 1 << 17
"""As much of a tar stream tells everything of a large file but its content."""
_PAX = (
    "--format=posix --blocking-factor=128 --pax-option=delete=atime,delete=ctime,delete=mtime "
    "--xattrs --xattrs-include='*' --sparse --no-recursion"
)
# The list of paths goes to memory first: a tar that waits for its output to be read does not read its list.
_SCRIPT = r"""
exec 4<&0
buffered=
stdbuf -o256K find --version >/dev/null 2>&1 && buffered='stdbuf -o256K'
keepers=
for process in /proc/[0-9]*; do
    [ "$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null)" != 'tail -f /dev/null ' ] || keepers="$keepers ${process#/proc/}"
done
births= code=0
run() {
    "$@" <&4 4<&- &
    births="$births $!"
    wait $!
    code=$?
}
look() {
    read -r _ _ _ _ last </proc/loadavg
    read -r up _ </proc/uptime
    printf 'look %s %s %s%s\n' "$$" "$last" "$up" "$keepers"
    for task in /proc/[0-9]*/task/[0-9]*; do
        { IFS= read -r line <"$task/stat" && IFS= read -r used <"$task/schedstat"; } 2>/dev/null &&
            printf '%s %s %s\n' "${task#/proc/}" "$used" "$line"
    done
}
# A directory of its own: names that others can foresee, where others can write, may be links of theirs. It is made
# before the first look: whose process that was need not be known.
own=$(mktemp -d /dev/shm/.hibernaut-XXXXXXXXXX) || exit 1
pipes=
start() {
    births="$births $!"
    started="$started $!"
}
# Sums up a segment: by two commands and a named pipe, so that the shell knows the ids of both.
sum_up_one() {
    dd if="/$path" bs=BLOCK skip="$(($2 * SEGMENT))" count=SEGMENT iflag=fullblock status=none >"$own/$1" 4<&- &
    start
    b2sum --length=SUM "$own/$1" 4<&- &
    start
}
# Tells of the file $path what tar tells before its content, and sums it up.
sum_up() {
    started=
    tar --create --file=- PAX "./$path" >"$own/0" 4<&- &
    start
    head -c HEAD <"$own/0" 4<&- &
    start
    wait $started
    number=0
    while [ "$number" -lt "$1" ]; do
        started=
        sum_up_one 0 "$number"
        number=$((number + 1))
        [ "$number" = "$1" ] || sum_up_one 1 "$number"
        number=$((number + 1))
        wait $started
    done
}
make_pipes() {
    [ -z "$pipes" ] || return
    pipes=none
    run b2sum --length=SUM /dev/null >/dev/null
    [ "$code" != 0 ] || run mkfifo "$own/0" "$own/1"
    [ "$code" != 0 ] || pipes=made
}
# The path of the file whose sums are kept.
kept=
while read -r what word size count; do
    births= code=0
    case $what in
    list)
        # A file that is likely to be asked for is summed up beside, if it was written to since the last listing.
        kept=
        if [ "$size" -gt 0 ]; then
            IFS= read -r path
            make_pipes
            births=
            if [ "$pipes" = made ]; then
                [ ! "/$path" -nt "$own/stamp" ] || kept=$path
                : >"$own/stamp"
            fi
        fi
        now=$(date +%s.%N)
        look
        # What is stored to a mapped file while its page is dirty changes neither of its times: pages are written out
        # first, unless no process has such a mapping for certain.
        code=2
        [ -r /proc/self/schedstat ] && run grep -qsE '^[^ ]+ .w.s ' /proc/[0-9]*/maps
        [ "$code" = 1 ] || run sync -f /
        printf '\0'
        run cat /proc/self/mountinfo
        printf '\0%s\0' "$now"
        $buffered find / -xdev -printf 'LISTING' <&4 4<&- &
        births="$births $!"
        finder=$!
        [ -z "$kept" ] || sum_up "$size" >"$own/sums"
        wait "$finder"
        code=$?
        ;;
    blocks)
        run find / -xdev -type f -printf '%b/%P\0'
        ;;
    sums)
        IFS= read -r path
        if [ "$count" = 1 ] && [ "$kept" = "$path" ]; then
            run cat "$own/sums"
        else
            make_pipes
            [ "$pipes" != made ] || sum_up "$size"
        fi
        ;;
    part)
        IFS= read -r path
        run dd if="/$path" bs=BLOCK skip="$size" count="$count" iflag=fullblock status=none
        ;;
    read)
        list=$own/list
        run head -c "$size" >"$list"
        [ "$code" != 0 ] || run tar --create --file=- PAX --ignore-failed-read --null --verbatim-files-from \
            --files-from="$list"
        failed=$code
        run rm -f "$list"
        code=$failed
        ;;
    esac
    printf '\n%s %s\n' "$word" "$code$births"
    look
    printf '%s\n' "$word"
done
rm -rf "$own"
"""
_WORDS = {
    "LISTING": LISTING,
    "PAX": _PAX,
    "SEGMENT": str(SEGMENT_BYTES // BLOCK),
    "BLOCK": str(BLOCK),
    "SUM": str(SUM_BYTES * 8),
    "HEAD": str(HEAD_BYTES),
}
SERVE = _TOOLS + re.sub("|".join(_WORDS), lambda found: _WORDS[found[0]], _SCRIPT)
"""What the shell runs."""
