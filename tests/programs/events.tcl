# An event loop with timers, a file, and big numbers between the events.

set report [open report w]
set sum 1
set turns 0

proc turn {} {
    global report sum turns done
    for {set i 0} {$i < 400} {incr i} {
        set sum [expr {($sum * 6364136223846793005 + $turns * $i + 1) % 170141183460469231731687303715884105727}]
        lappend ::drawn [expr {$sum % 1000}]
    }
    puts $report "$turns $sum [llength [lsort -integer -unique $::drawn]]"
    if {$turns % 10 == 0} { flush $report }
    if {[incr turns] == 180} { set done 1 } else { after 1 turn }
}

after 0 turn
vwait done
close $report
puts "sum $sum"
