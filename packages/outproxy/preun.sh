# $1 is how many versions are installed then.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl disable --now outproxy.service || :
    systemctl stop 'outproxy@*.service' || :
fi
