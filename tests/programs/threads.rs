//! 64 threads that lock, wait, park, sleep and send; a file that all of them write to.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::Duration;

const THREADS: usize = 64;
const TURNS: usize = 40;

thread_local!(static STATE: Cell<u64> = const { Cell::new(0) });

fn work(number: usize, turn: usize) -> u64 {
    let mut values: Vec<u64> = (0..3000).map(|at| (number * 31 + turn * 17 + at) as u64).collect();
    for _ in 0..6 {
        let mut last = STATE.get() | 1;
        for value in &mut values {
            last = last.rotate_left(7) ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *value = last;
        }
        values.sort_unstable();
        STATE.set(values[number] ^ last);
    }
    STATE.get()
}

fn main() {
    let report = Arc::new(Mutex::new((File::create("report").unwrap(), 0usize)));
    let turn_changed = Arc::new(Condvar::new());
    let table = Arc::new(RwLock::new(vec![0u64; THREADS]));
    let barrier = Arc::new(Barrier::new(THREADS));
    let (sender, receiver) = mpsc::channel();
    let workers: Vec<_> = (0..THREADS)
        .map(|number| {
            let (report, turn_changed, table) = (report.clone(), turn_changed.clone(), table.clone());
            let (barrier, sender) = (barrier.clone(), sender.clone());
            let name = format!("worker {number}");
            let run = move || {
                STATE.set(number as u64);
                for turn in 0..TURNS {
                    let value = work(number, turn);
                    table.write().unwrap()[number] ^= value;
                    if (number + turn) % 16 == 0 {
                        thread::sleep(Duration::from_millis(3));
                    }
                    thread::park_timeout(Duration::from_micros(50));
                    sender.send((number, turn, value)).unwrap();
                    barrier.wait();
                    // In turn, so that the file does not depend on the scheduler.
                    let mut guard = report.lock().unwrap();
                    while guard.1 != number {
                        guard = turn_changed.wait(guard).unwrap();
                    }
                    let sum = table.read().unwrap().iter().fold(0, |sum: u64, value| sum.rotate_left(1) ^ value);
                    writeln!(guard.0, "{turn} {number} {value:x} {sum:x}").unwrap();
                    guard.1 = (guard.1 + 1) % THREADS;
                    turn_changed.notify_all();
                    drop(guard);
                    barrier.wait();
                }
            };
            thread::Builder::new().name(name).spawn(run).unwrap()
        })
        .collect();
    drop(sender);
    let mut sum = 0u64;
    for (number, turn, value) in receiver {
        sum = sum.wrapping_add(value.wrapping_mul((number * TURNS + turn) as u64 | 1));
    }
    for worker in workers {
        worker.join().unwrap();
    }
    println!("{sum:x}");
}
