# bash completion for fluxbridge-sim: one file knows both programs
. "${BASH_SOURCE[0]%-sim.bash}.bash"
