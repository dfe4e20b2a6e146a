#!/bin/sh
# Installs Debian's Chromium for the browser tests where this user may; else those tests skip, saying so.
command -v apt-get >/dev/null 2>&1 || { echo "no apt-get here: install Chromium for the browser tests" >&2; exit 0; }
if [ "$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else
    echo "no right to install packages: install Chromium for the browser tests" >&2; exit 0
fi
{ $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } \
    >/dev/null 2>&1 || echo "Chromium could not be installed: the browser tests will be skipped" >&2
exit 0
