# bash completion for fluxbridge and fluxbridge-sim

# The names in the configuration that the command line names.
_fluxbridge_names() {
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -c | --config)
            grep -oE '\<name *= *"[A-Za-z0-9_-]+"' "${COMP_WORDS[i + 1]}" 2>/dev/null | cut -d'"' -f2
            return
            ;;
        esac
    done
}

_fluxbridge_types() {
    local directory file
    for directory in "${FLUXBRIDGE_PROFILES-}" /etc/fluxbridge/profiles \
        /usr/local/share/fluxbridge/profiles /usr/share/fluxbridge/profiles; do
        for file in "$directory"/*.cfg; do
            [ -e "$file" ] && basename "$file" .cfg
        done
    done
}

_fluxbridge() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} options words=
    COMPREPLY=()

    case $previous in
    -c | --config | -s | --sim | -a | --against | -S | --serial)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames 2>/dev/null
        return
        ;;
    -y | --parity)
        mapfile -t COMPREPLY < <(compgen -W "none even odd" -- "$word")
        return
        ;;
    -b | --baud | -p | --ports | -u | --units | --listen | --seed | --speed) return ;;
    esac

    if [ "${COMP_WORDS[0]##*/}" = fluxbridge-sim ]; then
        options="-c --config --listen --only --seed --speed -h --help -V --version"
        [ "$previous" = --only ] && words=$(_fluxbridge_names) && options=
    elif [ "$COMP_CWORD" -eq 1 ]; then
        options="-h --help -V --version"
        words="run check read write forget schedule points scan"
    else
        options="-h --help -V --version"
        case $command in
        run) options="$options -c --config -s --sim" ;;
        check) options="$options -c --config -j --json -o --online -a --against" ;;
        read)
            options="$options -c --config -s --sim -j --json -r --raw -w --watch"
            words=$(_fluxbridge_names)
            ;;
        write)
            options="$options -c --config -s --sim -j --json -n --dry-run"
            words="$(_fluxbridge_names) target_power"
            ;;
        forget)
            options="$options -c --config -n --dry-run -j --json"
            words=$(_fluxbridge_names)
            ;;
        schedule)
            options="$options -c --config -s --sim -j --json"
            words=$(_fluxbridge_names)
            ;;
        points)
            options="$options -j --json"
            words=$(_fluxbridge_types)
            ;;
        scan) options="$options -j --json -p --ports -u --units -S --serial -b --baud -y --parity" ;;
        *) options= ;;
        esac
    fi
    case $word in
    -*) words=$options ;;
    *) [ -n "$words" ] || words=$options ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _fluxbridge fluxbridge fluxbridge-sim
