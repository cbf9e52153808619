#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# lint.sh FOLDER...: what lintian says of the debs and rpmlint of the RPMs in them, errors and warnings alike.
# What is accepted is listed with its reason in packaging/deb/*.lintian-overrides and packaging/rpm/rpmlint.toml.
set -eu
top=$(dirname "$0")
status=0
for folder in "$@"; do
    for kind in deb rpm; do
        set -- "$folder"/*."$kind"
        [ -e "$1" ] || continue
        echo "==> $folder: $# packages ($kind)"
        case $kind in
        deb) lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$@" || status=1 ;;
        rpm) rpmlint --strict --config "$top/rpm/rpmlint.toml" "$@" || status=1 ;;
        esac
    done
done
exit $status
