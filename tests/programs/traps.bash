# A loop with traps: signals to itself, an array that grows, a file that is appended to. Built-in commands only: one process.

declare -a seen=()
caught=0
on_signal() {
    caught=$((caught + 1))
    seen+=("$1:$step")
}
trap 'on_signal usr1' USR1
trap 'on_signal usr2' USR2
trap '' HUP
trap 'echo "end at $step, caught $caught"' EXIT

exec 7>report
for ((step = 0; step < 14000; step++)); do
    sum=$(((sum * 31 + step) % 1000003))
    printf 'step %d sum %d\n' "$step" "$sum" >&7
    # $$ is a copy from the start; the process may have another id by now.
    case $((step % 60)) in
    13) kill -USR1 "$BASHPID" ;;
    31) kill -USR2 "$BASHPID" ;;
    47) kill -HUP "$BASHPID" ;;
    esac
    line=${line:0:40}$step
    [[ $line =~ ^([0-9]*)7([0-9]*)$ ]] && sum=$((sum + ${#BASH_REMATCH[1]}))
done
printf '%s\n' "${seen[@]}" >&7
echo "sum $sum"
