#!/bin/sh
# The entrypoint of the images: becomes whoever owns the folder that is mounted at /project, and then the command.
# It begins as root, with the three capabilities that this takes (compose.yaml). The command has none and gets none, not even
# where root owns the folder: in a rootless engine, the caller is root inside. Who begins without them stays who they are.
#   docker compose exec lab as-owner sh
set -eu
if [ $$ = 1 ] && command -v tini >/dev/null; then set -- tini -- "$@"; fi # hands signals on, and waits for orphans
set -- --no-new-privs -- "$@"
if grep -q '^CapEff:.*[1-9a-f]' /proc/self/status; then
    set -- --bounding-set=-all --inh-caps=-all "$@"
    owner=$(stat -c %u /project) group=$(stat -c %g /project)
    # where an engine maps numbers, 65534 is everybody who has none inside: nothing is won by becoming nobody
    if [ "$owner" = 65534 ] && ! grep -q ' 4294967295$' /proc/self/uid_map; then owner=0; fi
    if [ "$owner" = 0 ]; then group=0; else set -- --reuid="$owner" --regid="$group" --clear-groups "$@"; fi
    if [ -w /etc/passwd ]; then # the name by which an editor comes in, which does not pass by here
        users=$(sed "s/^researcher:x:[0-9]*:[0-9]*:/researcher:x:$owner:$group:/" /etc/passwd)
        echo "$users" >/etc/passwd
    fi
fi
exec setpriv "$@"
