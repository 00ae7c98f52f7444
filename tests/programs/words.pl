# Hashes, expressions, sorting, closures; a timer's signal handler; a file that is written and read back.

use strict;
use warnings;
use Time::HiRes qw(setitimer ITIMER_REAL);

my $ticks = 0;
$SIG{ALRM} = sub { $ticks++ };
setitimer(ITIMER_REAL, 0.003, 0.003);

my ($state, %count, %place) = (12345);
sub draw { $state = ($state * 1103515245 + 12345) % 2147483648; return ($state >> 8) % $_[0] }

open(my $report, '+>', 'report') or die "report: $!";
for my $line (1 .. 110000) {
    my $text = join ' ', map { chr(97 + draw(26)) . chr(97 + draw(26)) . draw(10) } 1 .. 6;
    while ($text =~ /\b([aeiou]\w)(\d)\b/g) {
        $count{$1} += $2;
        push @{ $place{$1} }, $line if $2 == 7;
    }
    print {$report} "$line $text\n" if $line % 3 == 0;
}
print {$report} "$_ $count{$_} ", scalar @{ $place{$_} || [] }, "\n" for sort { $count{$b} <=> $count{$a} or $a cmp $b } keys %count;
seek($report, 0, 0) or die "seek: $!";
my ($lines, $sum) = (0, 0);
while (<$report>) { $lines++; $sum = ($sum * 33 + length) % 1000000007 }
setitimer(ITIMER_REAL, 0);
close($report) or die "close: $!";
print "$lines $sum ", ($ticks ? "ticked" : "never ticked"), "\n";
