//! Those who ask a server.

use crate::kinds::PAGE;
use ckpt_tests::{Outcome, Stopped};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an answer may take, also while the server stands still.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for the page once, and expects it.
pub(crate) fn page(port: u16) -> Outcome<()> {
    let mut stream = connect(port)?;
    stream.write_all(b"GET /page HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    if answer.starts_with("HTTP/1.") && answer.contains(" 200 ") && body == PAGE {
        return Ok(());
    }
    Err(Stopped::Failed(format!("the server at port {port} said {answer:?}")))
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
    thread: JoinHandle<Outcome<()>>,
}

impl Asker {
    /// Asks until it is told to stop, or is not answered.
    pub(crate) fn start(port: u16, ask: fn(u16) -> Outcome<()>) -> Asker {
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let asks = move || {
            while !told.load(Ordering::Relaxed) {
                ask(port)?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        };
        Asker { enough, thread: std::thread::spawn(asks) }
    }

    /// Every question must have been answered.
    pub(crate) fn stop(self) -> Outcome<()> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(Stopped::Failed("who asked has panicked".to_owned())))
    }

    /// The server is gone: no answer is expected.
    pub(crate) fn abandon(self) {
        let _ = self.stop();
    }
}
