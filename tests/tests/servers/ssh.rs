//! OpenSSH: a session between two networks goes on, whichever of its ends is saved, killed and resumed.

use crate::server::{IMAGE, PATIENCE, have_ended, spawn, until};
use ckpt_tests::tools::{self, Tools, User};
use ckpt_tests::{Outcome, Stopped, flavour, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// What must be installed.
pub(crate) const NEEDS: [&str; 3] = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/sbin/ip"];
/// What the two ends are in their networks.
const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

const CONFIGURATION: &str = "
Port 22
ListenAddress 10.77.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
";

/// A network of its own, as long as there is a process in it.
struct Network {
    holder: Child,
    name: PathBuf,
}

impl Drop for Network {
    fn drop(&mut self) {
        for pid in self.processes() {
            // It may have ended meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = self.holder.wait();
    }
}

impl Network {
    fn new(folder: &Path) -> Outcome<Network> {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--net", "sleep", "infinity"]);
        let holder = spawn(command, folder, "holder")?;
        let file = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
        let ours = fs::read_link("/proc/self/ns/net")?;
        let mut network = Network { holder, name: ours.clone() };
        network.name = until(folder, "a network", || match fs::read_link(&file)? {
            name if name == ours => Err(Stopped::Failed("it is ours".to_owned())),
            name => Ok(name),
        })?;
        Ok(network)
    }

    /// All that are in it; none in that of the test.
    fn processes(&self) -> Vec<Pid> {
        if fs::read_link("/proc/self/ns/net").is_ok_and(|ours| ours == self.name) {
            return vec![Pid::from_raw(self.holder.id().cast_signed())];
        }
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let inside =
            |pid: &i32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|name| name == self.name);
        pids.filter(inside).map(Pid::from_raw).collect()
    }

    /// A command that is run in it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--").arg(program);
        command
    }

    fn run(&self, folder: &Path, words: &str) -> Outcome<()> {
        let mut words = words.split(' ');
        let mut command = self.command(Path::new(words.next().unwrap_or_default()));
        finish(command.args(words), folder)
    }
}

fn finish(command: &mut Command, folder: &Path) -> Outcome<()> {
    let finished = tools::run(command, folder, "command", User::Own)?;
    match finished.status.success() {
        true => Ok(()),
        false => Err(Stopped::Failed(format!("{command:?}: {} {}", finished.status, finished.error))),
    }
}

/// Two networks with a cable between them.
fn networks(folder: &Path) -> Outcome<[Network; 2]> {
    let both = [Network::new(folder)?, Network::new(folder)?];
    let [first, second] = &both;
    let peer = format!("link add cable type veth peer name cable netns {}", second.holder.id());
    first.run(folder, &format!("/usr/sbin/ip {peer}"))?;
    for (network, address) in both.iter().zip(ADDRESSES) {
        network.run(folder, &format!("/usr/sbin/ip address add {address}/24 dev cable"))?;
        network.run(folder, "/usr/sbin/ip link set cable up")?;
    }
    Ok(both)
}

/// One end of the session: a process with all its children, in its network.
struct End<'a> {
    network: &'a Network,
    root: u32,
    folder: &'a Path,
    tools: &'a Tools,
}

impl End<'_> {
    /// Saves and kills it, and resumes it: the supervisor.
    fn killed_and_resumed(&self, between: impl FnOnce() -> Outcome<()>) -> Outcome<Child> {
        let members = tree::ids(Path::new("/proc"), &[self.root])?;
        let mut command = self.network.command(&self.tools.program("ckpt-dump"));
        finish(command.args(["--kill", "-o", IMAGE, &self.root.to_string()]), self.folder)?;
        have_ended(self.folder, &members)?;
        between()?;
        until(self.folder, "the resume", || {
            let mut command = self.network.command(&self.tools.program("ckpt"));
            command.args(["restore", IMAGE, "--pid", "keep"]);
            let mut child = spawn(command, self.folder, "restore")?;
            let is_there =
                || tree::ids(Path::new("/proc"), &[self.root]).is_ok_and(|ids| ids.len() >= members.len());
            while !is_there() {
                let said = fs::read_to_string(self.folder.join("restore.err")).unwrap_or_default();
                match child.try_wait()? {
                    // Nobody else should have taken one of its ids, but everybody may.
                    Some(_) if flavour::is_taken(&said) => return Err(Stopped::Failed(said)),
                    Some(ended) => return Ok(Err(Stopped::Failed(format!("not resumed: {ended} {said}")))),
                    None => std::thread::sleep(std::time::Duration::from_millis(5)),
                }
            }
            Ok(Ok(child))
        })?
    }
}

/// The numbers that the client was told, which are 1, 2, 3, ...
fn lines(folder: &Path) -> Outcome<usize> {
    let text = fs::read_to_string(folder.join("client.out"))?;
    let numbers = text.lines().map_while(|line| line.strip_prefix("line ")?.parse::<usize>().ok());
    let numbers: Vec<usize> = numbers.collect();
    match numbers.iter().copied().eq(1..=numbers.len()) {
        true => Ok(numbers.len()),
        false => Err(Stopped::Failed(format!("the client was told {numbers:?}"))),
    }
}

/// Waits until there are five more.
fn five_more(folder: &Path) -> Outcome<()> {
    let before = lines(folder)?;
    until(folder, "what the session says", || match lines(folder)? {
        now if now >= before + 5 => Ok(()),
        now => Err(Stopped::Failed(format!("it had said {before} lines, now {now}"))),
    })
}

/// Starts a server and a client, each in a network, and saves one after the other.
pub(crate) fn session(tools: &Tools, folder: &Path) -> Outcome<()> {
    let place = folder.to_string_lossy().into_owned();
    for name in ["host", "key"] {
        let mut command = Command::new("/usr/bin/ssh-keygen");
        finish(command.args(["-q", "-t", "ed25519", "-N", "", "-f", name]), folder)?;
    }
    fs::write(folder.join("configuration"), CONFIGURATION.replace("{folder}", &place))?;
    // Debian's server wants it, and its service makes it.
    fs::create_dir_all("/run/sshd")?;
    let [its, ours] = networks(folder)?;

    let mut command = its.command(Path::new("/usr/sbin/sshd"));
    command.args(["-D", "-e", "-f"]).arg(folder.join("configuration"));
    let server = spawn(command, folder, "server")?;
    until(folder, "the server", || {
        match fs::read_to_string(folder.join("server.err"))?.contains("Server listening") {
            true => Ok(()),
            false => Err(Stopped::Failed("it does not listen".to_owned())),
        }
    })?;
    let mut command = ours.command(Path::new("/usr/bin/ssh"));
    command.args([
        "-tt",
        "-i",
        "key",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    command.args(["-o", "LogLevel=ERROR", "root@10.77.0.1"]).arg(format!(
        "i=0; until test -e {place}/enough; do i=$((i + 1)); echo line $i; sleep 0.05; done; tty; echo end $i"
    ));
    let client = spawn(command, folder, "client")?;
    until(folder, "a session", || match lines(folder)? {
        0 => Err(Stopped::Failed(fs::read_to_string(folder.join("client.err"))?)),
        _ => Ok(()),
    })?;

    let server = End { network: &its, root: server.id(), folder, tools };
    let mut supervisor = server.killed_and_resumed(|| Ok(()))?;
    five_more(folder)?;
    // What the session says while its client is not there waits for it.
    let client = End { network: &ours, root: client.id(), folder, tools };
    let pause = || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Ok(())
    };
    let mut at_client = client.killed_and_resumed(pause)?;
    five_more(folder)?;

    fs::write(folder.join("enough"), "")?;
    let status = tools::wait(&mut at_client, PATIENCE)?.ok_or("the client does not end")?;
    let text = fs::read_to_string(folder.join("client.out"))?;
    let end = format!("end {}", lines(folder)?);
    let terminal = text.lines().rev().nth(1).unwrap_or_default();
    if !status.success() || text.lines().last() != Some(&end) || !terminal.starts_with("/dev/pts/") {
        return Err(Stopped::Failed(format!(
            "the client ended with {status} after {terminal:?}, and not {end:?}"
        )));
    }
    kill(Pid::from_raw(server.root.cast_signed()), Signal::SIGTERM)?;
    tools::wait(&mut supervisor, PATIENCE)?.ok_or("the server does not end")?;
    Ok(())
}
