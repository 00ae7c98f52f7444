# A tmux server in the foreground, with a shell and an editor in two panes.
folder=$(cd "$(dirname "$0")" && pwd)
cat > conf <<END
set -g exit-empty on
set -g status off
set -g default-terminal screen
new-session -d -x 90 -y 30 "bash $folder/panes.bash"
END
# It reads this when the first client has come.
(until tmux -S "$PWD/socket" list-sessions; do sleep 0.05; done) </dev/null >/dev/null 2>&1 &
exec tmux -D -S "$PWD/socket" -f conf
