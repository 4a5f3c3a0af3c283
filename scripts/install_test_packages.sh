#!/usr/bin/env bash
# Installs the Debian packages that some tests need, where they are absent. Without apt-get or the right to use it nothing fails:
# the tests that need them are skipped, and say so.
#
#   bash scripts/install_test_packages.sh
set -uo pipefail

# program:package, one a line: the package is installed where the program is not on the PATH.
NEEDED="
chromium:chromium
"

missing=()
for pair in $NEEDED; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

skip() {
  echo "install_test_packages.sh: ${missing[*]} not installed, since $1. The tests that need it are skipped."
  exit 0
}

command -v apt-get >/dev/null || skip "there is no apt-get here"
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null && sudo -n true 2>/dev/null || skip "this takes root: sudo apt-get install ${missing[*]}"
  as_root=(sudo -n)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "install_test_packages.sh: installing ${missing[*]} for the tests"
if ! { "${as_root[@]}" apt-get update -qq &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  skip "apt-get failed ($(tail -n 1 "$log"))"
fi
