//! An image is a core file: gdb and readelf open it as it is.

use ckpt_tests::{sys, tools};
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

type Outcome = Result<(), Box<dyn Error>>;

/// A thread waits in a function of its own, with a local variable that only its stack holds.
const SOURCE: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) static void *waits_here(void *argument)
{
    volatile long marker = 0x5eed0000 + (long)argument;
    for (;;)
        pause();
    return (void *)marker;
}

int main(void)
{
    pthread_t threads[3];
    for (long i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, waits_here, (void *)i);
    puts("ready");
    fflush(stdout);
    usleep(200000);
    pause();
    return 0;
}
"#;

/// Ends the program whatever the test says.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `command` prints.
fn printed(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => {
            Err(format!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))
                .into())
        }
    }
}

fn dump(folder: &Path) -> Outcome {
    sys::leave_runner()?;
    let (source, program) = (folder.join("threads.c"), folder.join("threads"));
    fs::write(&source, SOURCE)?;
    printed(Command::new("gcc").args(["-g", "-O0", "-pthread", "-o"]).arg(&program).arg(&source))?;
    let child = Command::new(&program).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut running = Running(child);
    let output = running.0.stdout.take().ok_or("it has no output")?;
    BufReader::new(output).read_line(&mut String::new())?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = running.0.id().to_string();
    let dumper = tools::built()?.join("ckpt-dump");
    printed(Command::new(dumper).args([pid.as_str(), "-o"]).arg(folder.join("threads.ckpt"))).map(drop)
}

#[test]
fn gdb_shows_all_threads_and_their_variables_and_readelf_the_notes() -> Outcome {
    let folder = std::env::temp_dir().join(format!("ckpt-debugger-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let result = dump(&folder).and_then(|()| look(&folder));
    fs::remove_dir_all(&folder)?;
    result
}

fn look(folder: &Path) -> Outcome {
    let image = folder.join("threads.ckpt");
    let commands = [
        "info threads",
        "thread apply all backtrace",
        "thread apply all -s -q frame apply all -s -q print/x marker",
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]).args(commands.iter().flat_map(|command| ["-ex", command]));
    let text = printed(gdb.arg(folder.join("threads")).arg(&image))?;
    assert_eq!(text.matches("in waits_here (argument=").count(), 3, "a backtrace of each:\n{text}");
    for marker in ["0x5eed0000", "0x5eed0001", "0x5eed0002"] {
        assert!(text.contains(marker), "{marker} is on no stack:\n{text}");
    }
    assert!(text.contains("in main ()"), "the leader's backtrace:\n{text}");
    let notes = printed(Command::new("readelf").args(["-n", "-l", "-W"]).arg(&image))?;
    for note in ["NT_PRPSINFO", "NT_PRSTATUS", "NT_FPREGSET", "NT_X86_XSTATE", "NT_AUXV", "NT_FILE", "CKPT"] {
        assert!(notes.contains(note), "{note} is missing:\n{notes}");
    }
    // readelf gives our notes, too, the standard name of their number.
    let threads = notes.lines().filter(|line| line.contains("CORE") && line.contains("NT_PRSTATUS"));
    assert_eq!(threads.count(), 4, "one for each thread");
    Ok(())
}
