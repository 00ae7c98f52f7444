# A shell at a terminal of script(1): its size, who is in front, signals, a job in front that reads and one behind.
trap 'echo signalled' USR1
tty -s && echo at a terminal
stty rows 31 columns 97 -echo
for ((round = 0; round < 60; round++)); do
    read -r group front < <(ps -o pgid=,tpgid= -p $$)
    [[ $front == "$group" ]] && front=front
    echo "$round: $(stty size) $front"
    sleep 0.03
    ((round % 10 == 5)) && kill -USR1 $$
done
echo done
