//! The `ckpt-dump` command.

use binfmt::address::Pid;
use clap::{CommandFactory, Parser};
use dumper::allow::Allow;
use dumper::error::{Error, Status};
use dumper::{Afterwards, Options};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Save a running process as one file, which resumes it when it is run
///
/// The process stands still while it is saved and then runs on.
#[derive(Debug, Parser)]
#[command(name = "ckpt-dump", version, override_usage = "ckpt-dump [OPTIONS] <PID>", after_help = AFTER)]
struct Arguments {
    /// Process id
    #[arg(value_parser = clap::value_parser!(i32).range(1..), required_unless_present = "completions")]
    pid: Option<i32>,
    /// Write the image to FILE, which appears only when it is whole [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Kill the process when it has been saved
    #[arg(long, conflicts_with_all = ["stop", "check"])]
    kill: bool,
    /// Stop the process when it has been saved
    #[arg(long, conflicts_with = "check")]
    stop: bool,
    /// Only say what cannot be saved
    #[arg(long, conflicts_with = "output")]
    check: bool,
    /// Say it as JSON
    #[arg(long, requires = "check")]
    json: bool,
    /// Save it although this is lost; may be given more than once
    #[arg(long, value_name = "WHAT")]
    allow: Vec<Allow>,
    /// How long to wait for a thread that does not stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,
    /// Say how long the process stood still, and how large the image is
    #[arg(short, long)]
    verbose: bool,
    /// Print the completions for a shell (scripts/install puts them in place)
    #[arg(long, value_name = "SHELL", hide = true, exclusive = true)]
    completions: Option<clap_complete::Shell>,
}

const AFTER: &str = "Exit status:
  0  the process was saved (or, with --check, can be)
  2  the command line is wrong
  3  the process holds something that cannot be saved; all of it is named
  4  there is no such process, or no right to it
  5  the image could not be written
  6  the process ended while it was being saved
  7  the kernel did not answer a question about it
Whatever happens, the process runs on unharmed.";

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let sensible = (0.0..1e9).contains(&seconds);
    sensible.then_some(seconds).ok_or_else(|| "not a time".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let pid = match (arguments.pid, arguments.completions) {
        (Some(pid), _) => pid,
        (None, shell) => {
            let shell = shell.unwrap_or(clap_complete::Shell::Bash);
            clap_complete::generate(shell, &mut Arguments::command(), "ckpt-dump", &mut std::io::stdout());
            return ExitCode::SUCCESS;
        }
    };
    let afterwards = match (arguments.kill, arguments.stop) {
        (true, _) => Afterwards::Kill,
        (_, true) => Afterwards::Stop,
        _ => Afterwards::RunOn,
    };
    let options = Options {
        pid: Pid(pid),
        output: arguments.output.clone(),
        afterwards,
        allow: arguments.allow.clone(),
        timeout: Duration::from_secs_f64(arguments.timeout),
    };
    match run(&arguments, &options) {
        Ok(code) => code,
        Err(error) => {
            tell(&error.to_string());
            error.status().into()
        }
    }
}

fn tell(text: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "ckpt-dump: {text}");
}

fn run(arguments: &Arguments, options: &Options) -> Result<ExitCode, Error> {
    if arguments.check {
        return check(arguments, options);
    }
    let report = dumper::checkpoint(options)?;
    if arguments.verbose {
        let frozen_ms = report.frozen.as_secs_f64() * 1e3;
        let (threads, image_bytes) = (report.threads, report.image_bytes);
        tell(&format!("{threads} threads, {image_bytes} bytes, stood still for {frozen_ms:.3} ms"));
    }
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Arguments, options: &Options) -> Result<ExitCode, Error> {
    let items = dumper::check(options)?;
    let code = if items.is_empty() { ExitCode::SUCCESS } else { Status::Unsupported.into() };
    let text = if arguments.json {
        let answer = serde_json::json!({
            "pid": options.pid.0, "can_be_saved": items.is_empty(), "unsupported": items
        });
        format!("{answer:#}\n")
    } else if items.is_empty() {
        format!("pid {} can be saved\n", options.pid)
    } else {
        items.iter().map(|item| format!("{}\n  {}\n", item.what, item.advice)).collect()
    };
    // A reader that has gone away has heard enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(code)
}
