# SPDX-License-Identifier: Apache-2.0
# Runs what only bash can run of an nhc.conf, and gives site scripts the names that they know from NHC.
# Started as: bash bridge.bash FD RESULTS CHECK...   FD is a socket; each message on it is a row of NUL-ended words.
# RESULTS is a file for what functions print. Nothing that arrives is evaluated, but the text of a `run`, which is the
# administrator's configuration.

_refloat_fd=$1
_refloat_results=$2
shift 2
_refloat_watched=()
_refloat_each_line=0

_refloat_say() { printf '%s\0' "$@" >&"$_refloat_fd"; }
_refloat_hear() { IFS= read -r -d '' "$1" <&"$_refloat_fd"; }

# Hears how many words there are, and then these, into _refloat_words.
_refloat_hear_words() {
    local _refloat_count _refloat_word
    _refloat_hear _refloat_count || return 1
    while ((_refloat_count-- > 0)); do
        _refloat_hear _refloat_word || return 1
        _refloat_words+=("$_refloat_word")
    done
}

# Tells the values of the variables that the native side looks at.
_refloat_tell() {
    local _refloat_each
    for _refloat_each in "${_refloat_watched[@]}"; do
        [[ -z "${!_refloat_each+x}" ]] || _refloat_say variable "$_refloat_each" "${!_refloat_each}"
    done
}

# Asks the native side; the answer is a status, whether it is a death, a text in _refloat_answer, and an array to set.
_refloat_ask() {
    local _refloat_rc _refloat_dead _refloat_into
    local -a _refloat_words=()
    _refloat_say ask "$#" "$@"
    # A check may have us run a function of the site's before it answers.
    while _refloat_hear _refloat_rc && [[ "$_refloat_rc" == call ]]; do
        _refloat_call
    done
    [[ -n "$_refloat_rc" ]] && _refloat_hear _refloat_dead && _refloat_hear _refloat_answer &&
        _refloat_hear _refloat_into && _refloat_hear_words || return 1
    if [[ -n "$_refloat_into" ]]; then
        # A reference, so that it may be a variable of the function that asks.
        local -n _refloat_array=$_refloat_into
        _refloat_array=("${_refloat_words[@]}")
    fi
    if [[ "$_refloat_dead" == 1 ]]; then
        _refloat_fail "$_refloat_rc" native "$_refloat_answer"
    fi
    return "$_refloat_rc"
}

# Runs words as a command: in a subshell, as NHC does, and in a process group of its own, so that it can be killed.
_refloat_call() {
    local -a _refloat_words=()
    _refloat_hear_words
    set -m
    (
        # From in here, so that nothing else is said before.
        _refloat_say called "$BASHPID"
        # Else `die` would return, and the command end well.
        NHC_CHECK_ALL=0
        _refloat_each_line=0
        "${_refloat_words[@]}"
    ) >&"$_refloat_results" &
    set +m
    wait "$!" 2>/dev/null
    _refloat_say done "$?"
}

_refloat_check() {
    _refloat_tell
    _refloat_ask check "$@"
}

_refloat_fail() {
    _refloat_say die "$1" "$2" "$3"
    [[ "$NHC_CHECK_ALL" == 1 || "$_refloat_each_line" == 1 ]] || exit "$1"
    return 0
}

# The names of NHC. A site's script may define them anew.
die() {
    local rc=$1
    shift
    _refloat_fail "$rc" site "$*"
}
log() { _refloat_say log "$*"; }
vlog() { [[ "$VERBOSE" != 1 ]] || _refloat_say log "$*"; }
dbg() { [[ "$DEBUG" != 1 ]] || _refloat_say log "DEBUG:  $*"; }
oecho() { _refloat_say log "$*"; }
eecho() { _refloat_say log "$*"; }
vecho() { vlog "$@"; }
syslog() { _refloat_say syslog "$*"; }
syslog_flush() { return 0; }
kill_watchdog() { return 0; }

_refloat_assign() {
    local _refloat_into=$1
    shift
    _refloat_ask "$@" || return
    [[ -z "$_refloat_into" ]] || printf -v "$_refloat_into" '%s' "$_refloat_answer"
}

mcheck() { _refloat_ask match "$1" "$2"; }
mcheck_glob() { _refloat_ask match_glob "$1" "$2"; }
mcheck_regexp() { [[ "$1" =~ $2 ]]; }
mcheck_range() { _refloat_ask match_range "$1" "$2"; }
nhc_common_parse_size() { _refloat_assign "$2" parse_size "$1"; }
nhc_common_unparse_size() { _refloat_assign "$2" unparse_size "$1"; }
nhc_common_parse_count() { _refloat_assign "$2" parse_count "$1"; }
nhc_common_unparse_count() { _refloat_assign "$2" unparse_count "$1"; }
nhc_common_get_uid() { _refloat_assign "$2" uid "$1"; }
nhc_common_get_userid() { _refloat_assign "$2" user "$1"; }
nhc_common_load_passwd() { return 0; }
nhc_common_get_unix_time() { SECONDS=$EPOCHSECONDS; }
nhc_common_get_max_sys_uid() { _refloat_assign MAX_SYS_UID max_sys_uid; }
nhc_cmd_with_timeout() {
    local seconds=$1
    shift
    timeout --kill-after=1 "$seconds" "$@"
}
nhc_hw_gather_data() {
    local name
    for name in HW_SOCKETS HW_CORES HW_THREADS HW_RAM_TOTAL HW_RAM_FREE HW_SWAP_TOTAL HW_SWAP_FREE; do
        _refloat_assign "$name" hardware "$name"
    done
}

array_push() {
    local -n _refloat_array=$1
    shift
    _refloat_array+=("$@")
}
array_unshift() {
    local -n _refloat_array=$1
    shift
    _refloat_array=("$@" "${_refloat_array[@]}")
}
array_pop() {
    local -n _refloat_array=$1
    local count=${2:-1}
    local -a taken=("${_refloat_array[@]: -count}")
    _refloat_array=("${_refloat_array[@]:0:${#_refloat_array[@]}-count}")
    [[ -z "$3" ]] || printf -v "$3" '%s' "${taken[*]}"
}
array_shift() {
    local -n _refloat_array=$1
    _refloat_array=("${_refloat_array[@]:${2:-1}}")
}
array_split() {
    local -n _refloat_array=$3
    IFS=$1 read -r -d '' -a _refloat_array < <(printf '%s\0' "$2")
}
array_join() {
    local -n _refloat_array=$2
    local each text=
    for each in "${_refloat_array[@]}"; do
        text+=${text:+$1}$each
    done
    if [[ -n "$3" ]]; then
        printf -v "$3" '%s' "$text"
    else
        printf '%s\n' "$text"
    fi
}

for _refloat_name; do
    # A name of the program's own list of checks, not of the configuration.
    eval "$_refloat_name() { _refloat_check $_refloat_name \"\$@\"; }"
done
unset _refloat_name
set --

# In a function, so that a stray `break` or `return` of the configuration does not end the loop below. The text is
# split into words before it is evaluated, as NHC does.
_refloat_run() {
    CHECK=$1 # which scripts name in their messages
    eval $1
}
# shellcheck source=/dev/null
_refloat_source() { . "$1"; }

trap '_refloat_rc=$?; _refloat_tell; _refloat_say exit "$_refloat_rc"' EXIT
set -f
while _refloat_hear _refloat_verb; do
    case "$_refloat_verb" in
        set)
            _refloat_hear _refloat_name && _refloat_hear _refloat_value
            printf -v "$_refloat_name" '%s' "$_refloat_value"
            ;;
        export)
            _refloat_hear _refloat_name
            export "${_refloat_name?}"
            ;;
        watch)
            _refloat_hear _refloat_name
            _refloat_watched+=("$_refloat_name")
            ;;
        call)
            _refloat_call
            ;;
        run | source)
            _refloat_hear _refloat_text
            "_refloat_$_refloat_verb" "$_refloat_text"
            _refloat_rc=$?
            _refloat_tell
            _refloat_say done "$_refloat_rc"
            ;;
    esac
done
trap - EXIT
