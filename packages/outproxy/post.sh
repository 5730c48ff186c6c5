# $1 is how many versions are installed then.
if [ "$1" -gt 1 ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    # A restart would end the connections that take longer than `shutdown-grace`, and HSM sessions
    # do: when that may be is for the operator to say.
    for unit in $(systemctl list-units --plain --no-legend --state=active,reloading \
        'outproxy.service' 'outproxy@*.service' | cut -d ' ' -f 1); do
        echo "outproxy: $unit still runs the version before; \`systemctl restart $unit\` changes that"
    done
fi
