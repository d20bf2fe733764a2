#!/bin/sh
# Keeps an RPC server running on a board: starts it again when it ends by itself, ends it when told to end.
#
#   setsid supervise.sh FOLDER COMMAND [ARGUMENT...]
#
# FOLDER gets: supervisor, server (pid and start time of each) and log (with log.old, 2000 lines each).
# For any POSIX shell, with what coreutils or busybox have.
set -u
cd "$1" || exit 2
shift

started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
note() { echo "$1 $(started "$1")" >"$2.new" && mv "$2.new" "$2"; }

keep_log() {
    lines=0
    while IFS= read -r line; do
        printf '%s\n' "$line" >>log # a full disk must not stop the reading: the server would wait for it
        lines=$((lines + 1))
        if [ "$lines" -ge 2000 ]; then
            mv log log.old
            lines=0
        fi
    done 2>/dev/null
}

finish() {
    trap '' TERM
    [ -z "$pause" ] || kill "$pause" 2>/dev/null
    [ -z "$server" ] || { kill -TERM "$server" && wait "$server"; } 2>/dev/null
    rm -f supervisor server output
    exit 0
}

server= pause=
rm -f output
mkfifo output || exit 2
(trap '' TERM && keep_log) <output &
exec >output 2>&1 3>&-
trap finish TERM INT HUP
note $$ supervisor

delay=1
while :; do
    begun=$(date +%s)
    "$@" &
    server=$!
    note "$server" server
    wait "$server"
    code=$?
    server=
    # One that runs for a while and dies is back at once; one that can't run at all must not keep the board busy.
    if [ $(($(date +%s) - begun)) -ge 10 ]; then delay=1; fi
    echo "rpc server ended with code $code; starting it again in $delay s"
    sleep "$delay" &
    pause=$!
    wait "$pause"
    pause=
    delay=$((delay < 16 ? delay * 2 : 30))
done
