//! Chromium without a screen: a page that counts goes on counting, and another one can be opened.

use crate::client::Kept;
use crate::server::{IMAGE, PATIENCE, have_ended, spawn, until};
use ckpt_tests::tools::{self, Tools, User};
use ckpt_tests::{Outcome, Stopped, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) const BROWSER: &str = "/usr/bin/chromium";

/// A page whose script counts in its title.
const PAGE: &str = "<html><body><p id=shown>0</p><script>
let count = 0;
setInterval(() => {
    document.getElementById('shown').textContent = ++count;
    document.title = `count ${document.getElementById('shown').textContent}`;
}, 20);
</script></body></html>
";

/// The numbers in the titles of all pages, ascending.
fn counts(port: u16) -> Outcome<Vec<u64>> {
    let pages: serde_json::Value = serde_json::from_str(&Kept::connect(port)?.ask("GET /json")?)?;
    let titles = pages.as_array().into_iter().flatten().filter_map(|page| page.get("title")?.as_str());
    let mut counts: Vec<u64> =
        titles.filter_map(|title| title.strip_prefix("count ")?.parse().ok()).collect();
    counts.sort_unstable();
    Ok(counts)
}

/// The largest of so many numbers.
fn largest(port: u16, pages: usize) -> Outcome<u64> {
    let counts = counts(port)?;
    match counts.last() {
        Some(largest) if counts.len() == pages => Ok(*largest),
        _ => Err(Stopped::Failed(format!("{pages} pages have counted to {counts:?}"))),
    }
}

/// The processes that run in the folder and have left their parent: who waits for crashes of the others.
fn daemons(folder: &Path, root: u32) -> Outcome<Vec<u32>> {
    let members = tree::ids(Path::new("/proc"), &[root])?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| !members.contains(pid)) else { continue };
        let is_here = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
        if is_here
            && fs::read_link(entry.path().join("exe"))
                .is_ok_and(|exe| exe.ends_with("chrome_crashpad_handler"))
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Saved while it runs on, then saved, killed and resumed.
pub(crate) fn page(tools: &Tools, folder: &Path, port: u16) -> Outcome<()> {
    fs::write(folder.join("page.html"), PAGE)?;
    let address = format!("file://{}/page.html", folder.display());
    let mut command = Command::new(BROWSER);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}/data", folder.display()));
    command.arg(format!("--remote-debugging-port={port}")).arg(&address);
    let root = spawn(command, folder, "server")?.id();
    let at_least = |count: u64, pages| {
        until(folder, "a page that counts", || match largest(port, pages)? {
            now if now >= count => Ok(now),
            now => Err(Stopped::Failed(format!("it has counted to {now}"))),
        })
    };
    at_least(10, 1)?;
    let mut roots = vec![root];
    roots.extend(daemons(folder, root)?);
    let members = tree::ids(Path::new("/proc"), &roots)?;
    let dump = |options: &[&str]| {
        until(folder, "a checkpoint", || {
            let mut command = Command::new(tools.program("ckpt-dump"));
            command.args(["-o", IMAGE]).args(options).args(roots.iter().map(u32::to_string));
            let finished = tools::run(&mut command, folder, "dump", User::Own)?;
            match finished.status.success() {
                true => Ok(()),
                false => Err(Stopped::Failed(finished.error)),
            }
        })
    };
    dump(&[])?;
    let counted = at_least(largest(port, 1)? + 10, 1)?;
    dump(&["--kill"])?;
    have_ended(folder, &members)?;
    let mut command = Command::new(tools.program("ckpt"));
    command.args(["restore", IMAGE, "--pid", "keep"]);
    let mut supervisor = spawn(command, folder, "restore")?;
    until(folder, "the resume", || match supervisor.try_wait()? {
        Some(status) => Ok(Err(Stopped::Failed(format!("it ended with {status}")))),
        None => counts(port).map(Ok),
    })??;
    at_least(counted + 10, 1)?;
    Kept::connect(port)?.ask(&format!("PUT /json/new?{address}"))?;
    let both = at_least(counted + 20, 2)?;
    at_least(both + 10, 2)?;
    kill(Pid::from_raw(root.cast_signed()), Signal::SIGTERM)?;
    match tools::wait(&mut supervisor, PATIENCE)? {
        Some(status) if status.success() => Ok(()),
        status => Err(Stopped::Failed(format!("it ended with {status:?}"))),
    }
}
