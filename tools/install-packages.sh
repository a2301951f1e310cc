#!/bin/sh
# Installs the packages of packages.txt that are missing, and says which. Needs root or sudo only when something is missing.
set -eu
cd "$(dirname "$0")/.."
missing=""
for p in $(sed 's/#.*//' packages.txt); do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "hone: installing Debian packages:$missing"
sudo=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "hone: cannot install without root or sudo; install by hand:$missing" >&2; exit 1; }
    sudo=sudo
fi
$sudo apt-get -qq update
# shellcheck disable=SC2086  # the list is meant to be split
DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install -y --no-install-recommends $missing >/dev/null
