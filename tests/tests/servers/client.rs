//! Those who ask a server.

use crate::kinds::PAGE;
use ckpt_tests::{Outcome, Stopped};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an answer may take, also while the server stands still.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it answers to one question, anew.
fn get(port: u16, path: &str) -> Outcome<String> {
    let mut stream = connect(port)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.") && head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(Stopped::Failed(format!("the server at port {port} said {answer:?}"))),
    }
}

/// Asks for the page once, and expects it.
pub(crate) fn page(port: u16) -> Outcome<()> {
    match get(port, "/page")?.as_str() {
        PAGE => Ok(()),
        other => Err(Stopped::Failed(format!("the page is {other:?}"))),
    }
}

/// A number that it counts.
pub(crate) fn number(port: u16, path: &str) -> Outcome<u64> {
    Ok(get(port, path)?.trim().parse()?)
}

/// Whether a server that counts answers.
pub(crate) fn counts(port: u16) -> Outcome<()> {
    number(port, "/count").map(drop)
}

/// A connection that has had an answer, and is kept.
pub(crate) fn idle(port: u16) -> Outcome<TcpStream> {
    let mut stream = connect(port)?;
    stream.write_all(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut first = [0; 64];
    let len = stream.read(&mut first)?;
    if first.get(..len).unwrap_or_default().starts_with(b"HTTP/1.") {
        return Ok(stream);
    }
    Err(Stopped::Failed(format!("the server at port {port} said {:?}", String::from_utf8_lossy(&first))))
}

/// A connection that is kept, and over which the page is asked for again and again.
pub(crate) struct Kept {
    stream: BufReader<TcpStream>,
}

impl Kept {
    pub(crate) fn connect(port: u16) -> Outcome<Kept> {
        Ok(Kept { stream: BufReader::new(connect(port)?) })
    }

    /// Asks for the page, and expects it.
    pub(crate) fn page(&mut self) -> Outcome<()> {
        match self.ask("GET /page")? {
            body if body == PAGE => Ok(()),
            body => Err(Stopped::Failed(format!("a kept connection said {body:?}"))),
        }
    }

    /// What is answered to one question, a method and a path.
    pub(crate) fn ask(&mut self, question: &str) -> Outcome<String> {
        let request = format!("{question} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begin = head.len();
            if self.stream.read_line(&mut head)? == 0 {
                return Err(Stopped::Failed(format!("a kept connection ended after {head:?}")));
            }
            let line = head.get(begin..).unwrap_or_default().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        match head.starts_with("HTTP/1.1 200 ") {
            true => Ok(String::from_utf8_lossy(&body).into_owned()),
            false => Err(Stopped::Failed(format!("a kept connection said {head:?}"))),
        }
    }
}

/// A connection on which nothing takes for ever.
pub(crate) fn connect(port: u16) -> Outcome<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One who asks all the time.
pub(crate) struct Asker {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Outcome<()>)>,
}

impl Asker {
    /// Asks until it is told to stop, or is not answered.
    pub(crate) fn start(mut ask: impl FnMut() -> Outcome<()> + Send + 'static) -> Asker {
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let asks = move || {
            let mut answered = 0;
            while !told.load(Ordering::Relaxed) {
                if let Err(error) = ask() {
                    return (answered, Err(error));
                }
                answered += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            (answered, Ok(()))
        };
        Asker { enough, thread: std::thread::spawn(asks) }
    }

    fn end(self) -> Outcome<(u64, Outcome<()>)> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Stopped::Failed("who asked has panicked".to_owned()))
    }

    /// How often he was answered, which is every time.
    pub(crate) fn stop(self) -> Outcome<u64> {
        let (answered, outcome) = self.end()?;
        outcome.map(|()| answered)
    }

    /// How often he was answered before the server went away.
    pub(crate) fn abandon(self) -> Outcome<u64> {
        self.end().map(|(answered, _)| answered)
    }
}
