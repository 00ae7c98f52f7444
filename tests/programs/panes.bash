# What a shell in a pane of tmux does: it draws, has an editor beside it, and says at the end what the screen shows.
tmux split-window -d -l 8 'vim -u NONE -i NONE -N -n text'
# In another window a monitor, that shows this shell alone, and on one screen how it is used.
tmux new-window -d "HTOPRC=$PWD/../htoprc htop --no-color --delay=1 --pid=$$"
for ((round = 0; round < 60; round++)); do
    printf '\e[%d;%dH\e[3%dmround %d\e[m' $((round % 20 + 1)) $((round % 7 * 9 + 1)) $((round % 8)) "$round"
    ((round == 10)) && tmux send-keys -t :1 h
    ((round == 20)) && tmux send-keys -t 1 'ione line' Enter 'another line' Escape
    ((round == 40)) && tmux send-keys -t 1 'Othe first' Escape
    sleep 0.03
done
# Until the editor has drawn what was typed.
until editor=$(tmux capture-pane -p -t 1) && [[ $editor == *'the first'* && $editor != *INSERT* ]]; do sleep 0.05; done
stty size > size
tmux capture-pane -pe -t 0 > screen
tmux capture-pane -pe -t 1 > editor
tmux capture-pane -pe -t :1 > help
# Any key leads back to what goes on: it still looks.
tmux send-keys -t :1 x
until monitor=$(tmux capture-pane -p -t :1) && [[ $monitor == *Tasks:*"$$ "* ]]; do sleep 0.05; done
tmux send-keys -t :1 q
while [[ $(tmux list-windows) == *$'\n'* ]]; do sleep 0.05; done
tmux send-keys -t 1 ':wq' Enter
while [[ $(tmux list-panes) == *$'\n'* ]]; do sleep 0.05; done
rm socket
