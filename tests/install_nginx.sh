#!/bin/sh
# Unpacks Debian's nginx into the folder given, for tests/ui/test_proxy.py: nothing is installed, no service is started.
# Where it cannot be had that test skips, saying so.
command -v apt-get >/dev/null 2>&1 || { echo "no apt-get here: install nginx for the test of docs/nginx.conf" >&2; exit 0; }
mkdir -p "$1" && cd "$1" || exit 0
{ apt-get download -qq nginx || { apt-get update -qq && apt-get download -qq nginx; }; } >/dev/null 2>&1
dpkg-deb -x nginx_*.deb . 2>/dev/null && rm -f nginx_*.deb || echo "nginx could not be had: its test will be skipped" >&2
exit 0
