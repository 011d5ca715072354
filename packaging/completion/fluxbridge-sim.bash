# bash completion for fluxbridge-sim: one file knows both programs
# shellcheck source=/dev/null
. "${BASH_SOURCE[0]%-sim.bash}.bash"
