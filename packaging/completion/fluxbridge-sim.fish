# fish completion for fluxbridge-sim
complete -c fluxbridge-sim -f
complete -c fluxbridge-sim -s c -l config -rF -d 'The configuration'
complete -c fluxbridge-sim -l listen -x -d 'Serve all at this address'
complete -c fluxbridge-sim -l only -x -a '(__fluxbridge_names)' -d 'Serve just this device'
complete -c fluxbridge-sim -l seed -x -d 'Start value of all randomness'
complete -c fluxbridge-sim -l speed -x -d 'Simulated seconds per second'
complete -c fluxbridge-sim -s h -l help -d 'Help'
complete -c fluxbridge-sim -s V -l version -d 'The version'
