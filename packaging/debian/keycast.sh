#!/bin/sh
# The command of the package. Its gateway is the one of /etc/keycast, unless the folder has a configuration of its own.
if [ -z "${KEYCAST_CONFIG:-}" ] && [ ! -e keycast.toml ]; then
    export KEYCAST_CONFIG=/etc/keycast/keycast.toml
fi
exec /opt/keycast/bin/keycast "$@"
