# fish completion for fluxbridge

# The names in the configuration that the command line names.
function __fluxbridge_names
    set -l words (commandline -opc)
    for i in (seq (count $words))
        if contains -- $words[$i] -c --config
            grep -oE '\<name *= *"[A-Za-z0-9_-]+"' $words[(math $i + 1)] 2>/dev/null | cut -d'"' -f2
        end
    end
end

function __fluxbridge_types
    for directory in $FLUXBRIDGE_PROFILES /etc/fluxbridge/profiles \
            /usr/local/share/fluxbridge/profiles /usr/share/fluxbridge/profiles
        for file in $directory/*.cfg
            string replace -r '.*/(.*)\.cfg$' '$1' $file
        end
    end
end

complete -c fluxbridge -f
complete -c fluxbridge -s h -l help -d 'Help'
complete -c fluxbridge -s V -l version -d 'The version'

set -l commands run check read write forget schedule points scan
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a run -d 'Run the bridge'
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a check -d 'Check a configuration'
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a read -d 'Read a device once'
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a write -d 'Write one value'
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a forget -d 'Clear what the broker retains'
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a schedule -d 'Show a battery\'s schedule'
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a points -d 'Show the points of a type'
complete -c fluxbridge -n "not __fish_seen_subcommand_from $commands" -a scan -d 'Find Modbus TCP devices'

complete -c fluxbridge -n '__fish_seen_subcommand_from run check read write forget schedule' -s c -l config -rF -d 'The configuration'
complete -c fluxbridge -n '__fish_seen_subcommand_from run read write schedule' -s s -l sim -rF -d 'Simulated devices'
complete -c fluxbridge -n '__fish_seen_subcommand_from check read write forget schedule points scan' -s j -l json -d 'One JSON object'
complete -c fluxbridge -n '__fish_seen_subcommand_from check' -s o -l online -d 'Ask broker and devices as well'
complete -c fluxbridge -n '__fish_seen_subcommand_from check' -s a -l against -rF -d 'What a reload would do'
complete -c fluxbridge -n '__fish_seen_subcommand_from read' -s r -l raw -d 'Also the registers'
complete -c fluxbridge -n '__fish_seen_subcommand_from read' -s w -l watch -d 'Again and again'
complete -c fluxbridge -n '__fish_seen_subcommand_from write forget' -s n -l dry-run -d 'Only say it'
complete -c fluxbridge -n '__fish_seen_subcommand_from scan' -s p -l ports -x -d 'TCP ports'
complete -c fluxbridge -n '__fish_seen_subcommand_from scan' -s u -l units -x -d 'Unit ids'
complete -c fluxbridge -n '__fish_seen_subcommand_from scan' -s S -l serial -rF -d 'A serial line'
complete -c fluxbridge -n '__fish_seen_subcommand_from scan' -s b -l baud -x -d 'Its rate'
complete -c fluxbridge -n '__fish_seen_subcommand_from scan' -s y -l parity -x -a 'none even odd' -d 'Its parity'
complete -c fluxbridge -n '__fish_seen_subcommand_from read write forget schedule' -a '(__fluxbridge_names)' -d Device
complete -c fluxbridge -n '__fish_seen_subcommand_from write' -a target_power -d Point
complete -c fluxbridge -n '__fish_seen_subcommand_from points' -a '(__fluxbridge_types)' -d Type
