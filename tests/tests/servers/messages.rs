//! mosquitto: MQTT 3.1.1, as far as one needs it to publish and to hear the last message of a topic.

use crate::client::connect;
use ckpt_tests::{Outcome, Stopped};
use std::io::{Read, Write};
use std::net::TcpStream;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
/// At least once, and the last of each topic is kept.
const PUBLISH_KEPT: u8 = 0x33;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGREQ: u8 = 0xc0;

fn send(stream: &mut TcpStream, kind: u8, parts: &[&[u8]]) -> Outcome<()> {
    let body = parts.concat();
    // Longer ones take more than one byte of length.
    let len = u8::try_from(body.len()).ok().filter(|len| *len < 128).ok_or("the packet is too long")?;
    Ok(stream.write_all(&[&[kind, len], body.as_slice()].concat())?)
}

/// The next packet: its kind and what is in it.
fn receive(stream: &mut TcpStream) -> Outcome<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let [kind, len] = head;
    let mut body = vec![0; usize::from(len)];
    stream.read_exact(&mut body)?;
    Ok((kind & 0xf0, body))
}

fn expect(stream: &mut TcpStream, kind: u8) -> Outcome<()> {
    match receive(stream)? {
        (found, _) if found == kind => Ok(()),
        other => Err(Stopped::Failed(format!("the broker said {other:?}, and not {kind:#x}"))),
    }
}

fn text(text: &str) -> Outcome<Vec<u8>> {
    Ok([&u16::try_from(text.len())?.to_be_bytes(), text.as_bytes()].concat())
}

fn open(port: u16) -> Outcome<TcpStream> {
    let mut stream = connect(port)?;
    // Version 4, no session that stays, nobody need say anything for a minute, no name.
    send(&mut stream, CONNECT, &[&text("MQTT")?, &[4, 2, 0, 60], &text("")?])?;
    expect(&mut stream, CONNACK)?;
    Ok(stream)
}

/// Whether it answers.
pub(crate) fn answers(port: u16) -> Outcome<()> {
    open(port).map(drop)
}

/// Publishes a message, and waits until the broker has it.
pub(crate) fn publish(port: u16, topic: &str, message: &str) -> Outcome<()> {
    publish_on(&mut open(port)?, topic, message)
}

fn publish_on(stream: &mut TcpStream, topic: &str, message: &str) -> Outcome<()> {
    send(stream, PUBLISH_KEPT, &[&text(topic)?, &[0, 1], message.as_bytes()])?;
    expect(stream, PUBACK)
}

/// The last message of a topic; nothing if there was none.
pub(crate) fn last(port: u16, topic: &str) -> Outcome<String> {
    let (mut stream, name) = (open(port)?, text(topic)?);
    send(&mut stream, SUBSCRIBE, &[&[0, 1], &name, &[0]])?;
    expect(&mut stream, SUBACK)?;
    send(&mut stream, PINGREQ, &[])?;
    match receive(&mut stream)? {
        (PUBLISH, body) => {
            Ok(String::from_utf8_lossy(body.get(name.len()..).unwrap_or_default()).into_owned())
        }
        _ => Ok(String::new()),
    }
}

/// The last number.
pub(crate) fn count(port: u16) -> Outcome<u64> {
    match last(port, "counted")?.as_str() {
        "" => Ok(0),
        number => Ok(number.parse()?),
    }
}

/// Publishes the numbers after `number`.
pub(crate) fn counts(port: u16, mut number: u64) -> impl FnMut() -> Outcome<()> {
    let mut stream = None;
    move || {
        if stream.is_none() {
            stream = Some(open(port)?);
        }
        number += 1;
        publish_on(stream.as_mut().ok_or("there is no connection")?, "counted", &number.to_string())
    }
}
