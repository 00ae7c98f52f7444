//! memcached, and what it holds.

use crate::client::connect;
use ckpt_tests::{Outcome, Stopped};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

/// How many values it holds.
const VALUES: usize = 1000;

fn value(number: usize) -> String {
    format!("{number} ").repeat(100)
}

/// Sends some commands, and says the lines of the answer up to `last`.
fn ask(stream: &mut BufReader<TcpStream>, commands: &str, last: &str) -> Outcome<Vec<String>> {
    stream.get_mut().write_all(commands.as_bytes())?;
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(Stopped::Failed("the connection has ended".to_owned()));
        }
        match line.trim_end_matches("\r\n") {
            line if line == last => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn open(port: u16) -> Outcome<BufReader<TcpStream>> {
    Ok(BufReader::new(connect(port)?))
}

/// Whether it answers.
pub(crate) fn answers(port: u16) -> Outcome<()> {
    ask(&mut open(port)?, "verbosity 0\r\n", "OK").map(drop)
}

/// Gives it its values, and a number to count with.
pub(crate) fn fill(port: u16) -> Outcome<()> {
    let mut stream = open(port)?;
    for number in 0..VALUES {
        let value = value(number);
        ask(&mut stream, &format!("set key{number} 0 0 {}\r\n{value}\r\n", value.len()), "STORED")?;
    }
    ask(&mut stream, "set counted 0 0 1\r\n0\r\n", "STORED").map(drop)
}

/// Every value is there.
pub(crate) fn is_filled(port: u16) -> Outcome<()> {
    let mut stream = open(port)?;
    for number in 0..VALUES {
        let lines = ask(&mut stream, &format!("get key{number}\r\n"), "END")?;
        if lines.last().map(String::as_str) != Some(value(number).as_str()) {
            return Err(Stopped::Failed(format!("key{number} is {lines:?}")));
        }
    }
    Ok(())
}

/// How far it has counted.
pub(crate) fn count(port: u16) -> Outcome<u64> {
    let lines = ask(&mut open(port)?, "get counted\r\n", "END")?;
    Ok(lines.last().ok_or("it has no number")?.trim().parse()?)
}

/// Counts on from `number`, each time by one.
pub(crate) fn counts(port: u16, mut number: u64) -> impl FnMut() -> Outcome<()> {
    let mut stream = None;
    move || {
        if stream.is_none() {
            stream = Some(open(port)?);
        }
        number += 1;
        let stream = stream.as_mut().ok_or("there is no connection")?;
        ask(stream, "incr counted 1\r\n", &number.to_string()).map(drop)
    }
}
